package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"omega/internal/strictjson"
	"omega/policy"
	"omega/policy/compile"
)

// runPolicyReplay decides recorded calls in their order, one line each, with
// the state that the gateway would have kept.
func runPolicyReplay(ctx context.Context, e *env, args []string) error {
	fs := e.flags("policy")
	file := fs.String("policy", "", "policy in YAML or Wasm")
	from := fs.String("calls", "", "calls, one JSON object a line; - is stdin")
	check := fs.Bool("check", false, "exit 4 where a line cannot be read or a call is not decided as it expects")
	fs.Bool("json", true, "print JSON lines, which is all that is printed")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *file == "" || *from == "" {
		return errors.New("omega policy replay: --policy and --calls are needed")
	}
	p, r, done, err := e.openDecision(ctx, *file, *from)
	if err != nil {
		return err
	}
	defer done()
	out := bufio.NewWriter(e.Stdout)
	score := newScore(p.doc)
	err = eachLine(ctx, r, func(n int, line []byte) error {
		c, d, err := p.read(ctx, line)
		if err != nil {
			d = policy.Deny(fmt.Sprintf("line %d: %v", n, err))
			e.sayf("%s:%d: %v", *from, n, err)
		}
		if score.add(c, d, err); !c.met(d) {
			e.sayf("%s:%d: expected %s: %s", *from, n, c.expect, inWords(d))
		}
		return printLine(out, d)
	})
	if err == nil {
		err = printLine(out, map[string]any{"summary": score.summary()})
	}
	if err = errors.Join(err, out.Flush()); err != nil {
		return err
	}
	score.say(e)
	if *check {
		return exit(exitMismatch, score.fault())
	}
	return nil
}

// eachLine reads lines, without those that are empty, each with its number.
func eachLine(ctx context.Context, in io.Reader, do func(int, []byte) error) error {
	lines := bufio.NewReaderSize(in, 64<<10)
	for n := 1; ; n++ {
		line, err := readLine(lines)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && len(bytes.TrimSpace(line)) > 0 {
			err = do(n, line)
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
	}
}

// maxLine bounds a recorded call with its result.
const maxLine = 4 << 20

// readLine reads one line and keeps no more than a recorded call may have.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line) <= maxLine {
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

// replayer decides calls and keeps what each instance did in each session.
type replayer struct {
	doc     *policy.Document
	decider *policy.Decider
	states  map[[3]string]*policy.State // by session, agent and instance
}

// openPolicy opens a policy in YAML or Wasm for calls.
func openPolicy(ctx context.Context, path string) (*replayer, error) {
	wasm, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var doc *policy.Document
	if bytes.HasPrefix(wasm, []byte("\x00asm")) {
		doc, err = policy.DocumentOf(wasm)
	} else {
		var out *compile.Output
		if out, err = compile.File(path); err == nil {
			doc, wasm = out.Document, out.Wasm
		}
	}
	if err != nil {
		return nil, err
	}
	d, err := policy.NewDecider(ctx, wasm)
	if err != nil {
		return nil, err
	}
	return newReplayer(doc, d), nil
}

func newReplayer(doc *policy.Document, d *policy.Decider) *replayer {
	return &replayer{doc: doc, decider: d, states: map[[3]string]*policy.State{}}
}

// call is one recorded call. A state that is given stands for itself, as in a
// logged decision input.
type call struct {
	agent   policy.InputAgent
	call    policy.Call
	given   *policy.InputState
	labels  []string
	outcome policy.Outcome
	expect  string // permit, deny, or nothing
}

// met says whether a decision is what the call expects, if it expects one.
func (c call) met(d policy.Decision) bool { return c.expect == "" || c.expect == d.Word() }

type callJSON struct {
	Session   json.RawMessage    `json:"session"`
	Agent     json.RawMessage    `json:"agent"` // a name, or a name and an instance
	Action    string             `json:"action"`
	Resource  string             `json:"resource"`
	Args      json.RawMessage    `json:"args"`
	State     *policy.InputState `json:"state"`
	Now       int64              `json:"now"`       // seconds since 1970
	Approvals []string           `json:"approvals"` // principals that approved this call
	Labels    []string           `json:"labels"`    // of a caller's request, or that came with the result
	Result    json.RawMessage    `json:"result"`    // what came back, where it is known
	Usage     *usageJSON         `json:"usage"`
	Expect    string             `json:"expect"` // permit: the user's own; deny: an attack
}

type usageJSON struct {
	Input  int64 `json:"input"`
	Output int64 `json:"output"`
}

// line decides one call; what cannot be read is denied.
func (r *replayer) line(ctx context.Context, b []byte) policy.Decision {
	_, d, err := r.read(ctx, b)
	if err != nil {
		return policy.Deny(err.Error())
	}
	return d
}

// read decides one call that can be read.
func (r *replayer) read(ctx context.Context, b []byte) (call, policy.Decision, error) {
	c, err := parseCall(b)
	if err != nil {
		return call{}, policy.Decision{}, err
	}
	_, d := r.decide(ctx, c)
	return c, d, nil
}

// decide states a call, asks the policy, and keeps what a permit means for the
// calls after it.
func (r *replayer) decide(ctx context.Context, c call) (policy.Input, policy.Decision) {
	s := r.state(c.call.Session, c.agent)
	in := s.Input(c.call)
	if c.given != nil {
		in.State = *c.given
	}
	text, err := in.Encode()
	if err != nil {
		return in, policy.Deny("call has no canonical form")
	}
	d := r.decider.Decide(ctx, text)
	if c.given != nil || !d.Permit {
		return in, d
	}
	if in.Action == policy.ActionInvoke {
		s.Invoke(in.Args, c.labels...)
		return in, d
	}
	u := s.Begin(in, d)
	s.Finish(in, u, c.outcome)
	r.deliver(in, s)
	return in, d
}

// deliver gives the labels of a message to the agent that receives it.
func (r *replayer) deliver(in policy.Input, from *policy.State) {
	if in.Action != policy.ActionSend && in.Action != policy.ActionStream {
		return
	}
	if p, ok := r.doc.Peer(in.Resource); ok && p.Agent != "" {
		r.state(in.Session, policy.InputAgent{Name: p.Agent, Instance: p.Agent}).Merge(from.Labels()...)
	}
}

func (r *replayer) state(session string, agent policy.InputAgent) *policy.State {
	key := [3]string{session, agent.Name, agent.Instance}
	if r.states[key] == nil {
		r.states[key] = policy.NewState(r.doc, agent.Name, agent.Instance)
	}
	return r.states[key]
}

func parseCall(b []byte) (call, error) {
	var c callJSON
	if err := strictjson.Decode(b, &c, strictjson.Limits{MaxBytes: maxLine}); err != nil {
		return call{}, fmt.Errorf("call: %w", err)
	}
	out := call{
		call:  policy.Call{Action: c.Action, Resource: c.Resource, Args: c.Args, Now: c.Now, Approvals: c.Approvals},
		given: c.State, labels: c.Labels, expect: c.Expect,
		outcome: policy.Outcome{Labels: c.Labels, Bytes: int64(len(c.Result)), Result: c.Result},
	}
	if c.Usage != nil {
		if c.Usage.Input < 0 || c.Usage.Output < 0 {
			return call{}, errors.New("call: usage: below zero")
		}
		out.outcome.Usage = &policy.Usage{Input: c.Usage.Input, Output: c.Usage.Output}
	}
	if c.Expect != "" && c.Expect != "permit" && c.Expect != "deny" {
		return call{}, fmt.Errorf("call: expect: %.20q, want permit or deny", c.Expect)
	}
	var err error
	if out.call.Session, err = label(c.Session); err != nil {
		return call{}, fmt.Errorf("call: session: %w", err)
	}
	if len(c.Agent) > 0 && c.Agent[0] == '"' {
		err = strictjson.Decode(c.Agent, &out.agent.Name, strictjson.Limits{})
		out.agent.Instance = out.agent.Name
	} else {
		err = strictjson.Decode(c.Agent, &out.agent, strictjson.Limits{})
	}
	if err != nil {
		return call{}, fmt.Errorf("call: agent: %w", err)
	}
	return out, nil
}

// label reads a session's name, which may also be a number.
func label(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", nil
	}
	if raw[0] != '"' {
		var n float64
		if strictjson.Decode(raw, &n, strictjson.Limits{}) != nil {
			return "", errors.New("neither a text nor a number")
		}
		return string(raw), nil
	}
	var s string
	err := strictjson.Decode(raw, &s, strictjson.Limits{})
	return s, err
}
