package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"omega/internal/strictjson"
	"omega/policy"
)

// runPolicyReplay decides recorded calls in their order, one line each, with
// the counts that the gateway would have kept.
func runPolicyReplay(ctx context.Context, e *env, args []string) error {
	fs := e.flags("policy")
	file := fs.String("policy", "", "policy in YAML or Wasm")
	from := fs.String("calls", "", "calls, one JSON object a line; - is stdin")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *file == "" || *from == "" {
		return errors.New("omega policy replay: --policy and --calls are needed")
	}
	decider, r, done, err := e.openDecision(ctx, *file, *from)
	if err != nil {
		return err
	}
	defer done()
	out := bufio.NewWriter(e.Stdout)
	counts, err := newReplayer(decider).all(ctx, r, out)
	if err != nil {
		return err
	}
	if err := printLine(out, map[string]any{"summary": counts}); err != nil {
		return err
	}
	return out.Flush()
}

// replayer decides calls and keeps what each session did.
type replayer struct {
	decide func(context.Context, []byte) policy.Decision
	counts map[[2]string]map[string]int // by session and agent instance
}

func newReplayer(d *policy.Decider) *replayer {
	return &replayer{decide: d.Decide, counts: map[[2]string]map[string]int{}}
}

// all decides every line; empty ones are passed over.
func (r *replayer) all(ctx context.Context, in io.Reader, out io.Writer) (map[string]int, error) {
	sum := map[string]int{"calls": 0, "permit": 0, "deny": 0}
	lines := bufio.NewReaderSize(in, 64<<10)
	for {
		line, err := readLine(lines)
		if errors.Is(err, io.EOF) {
			return sum, nil
		}
		if err != nil {
			return nil, err
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		d := r.line(ctx, line)
		sum["calls"]++
		sum[d.Word()]++
		if err := printLine(out, d); err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// readLine reads one line and keeps no more than a decision input may have.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line) <= policy.MaxInput {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return line, nil
		default:
			return line, err
		}
	}
}

// callJSON is a recorded call. The agent is a name or a name and an instance;
// a state that is given stands for itself, as in a logged decision input.
type callJSON struct {
	Session  json.RawMessage    `json:"session"`
	Agent    json.RawMessage    `json:"agent"`
	Action   string             `json:"action"`
	Resource string             `json:"resource"`
	Args     json.RawMessage    `json:"args"`
	State    *policy.InputState `json:"state"`
}

// line decides one call; what cannot be read is denied.
func (r *replayer) line(ctx context.Context, b []byte) policy.Decision {
	in, given, err := parseCall(b)
	if err != nil {
		return policy.Deny(err.Error())
	}
	key := [2]string{in.Session, in.Agent.Name + "\x00" + in.Agent.Instance}
	if r.counts[key] == nil {
		r.counts[key] = map[string]int{}
	}
	if !given {
		in.State = policy.InputState{Counts: r.counts[key]}
	}
	text, err := in.Encode()
	if err != nil {
		return policy.Deny("call has no canonical form")
	}
	d := r.decide(ctx, text)
	if d.Permit {
		r.counts[key][d.Rule]++
	}
	return d
}

// parseCall reads a call and whether it brings its state along.
func parseCall(b []byte) (policy.Input, bool, error) {
	var c callJSON
	if err := strictjson.Decode(b, &c, strictjson.Limits{MaxBytes: policy.MaxInput}); err != nil {
		return policy.Input{}, false, fmt.Errorf("call: %w", err)
	}
	in := policy.Input{Action: c.Action, Resource: c.Resource, Args: c.Args}
	if c.State != nil {
		in.State = *c.State
	}
	var err error
	if in.Session, err = label(c.Session); err != nil {
		return policy.Input{}, false, fmt.Errorf("call: session: %w", err)
	}
	if len(c.Agent) > 0 && c.Agent[0] == '"' {
		err = strictjson.Decode(c.Agent, &in.Agent.Name, strictjson.Limits{})
		in.Agent.Instance = in.Agent.Name
	} else {
		err = strictjson.Decode(c.Agent, &in.Agent, strictjson.Limits{})
	}
	if err != nil {
		return policy.Input{}, false, fmt.Errorf("call: agent: %w", err)
	}
	return in, c.State != nil, nil
}

// label reads a session's name, which may also be a number.
func label(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", nil
	}
	if raw[0] != '"' {
		var n float64
		return string(raw), strictjson.Decode(raw, &n, strictjson.Limits{})
	}
	var s string
	err := strictjson.Decode(raw, &s, strictjson.Limits{})
	return s, err
}
