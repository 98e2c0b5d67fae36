package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"omega/policy"
)

// changedJSON is a call that two policies decide differently.
type changedJSON struct {
	Line int             `json:"line"`
	Call json.RawMessage `json:"call"`
	A    policy.Decision `json:"a"`
	B    policy.Decision `json:"b"`
}

// runPolicyDiff replays the same calls under two policies, each with the state
// that follows from its own decisions, and prints those that differ.
func runPolicyDiff(ctx context.Context, e *env, args []string) error {
	var files []string
	for len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		files, args = append(files, args[0]), args[1:]
	}
	fs := e.flags("policy")
	from := fs.String("calls", "", "calls, one JSON object a line; - is stdin")
	asJSON := fs.Bool("json", false, "print JSON lines")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if files = append(files, fs.Args()...); len(files) != 2 || *from == "" {
		return errors.New("omega policy diff: two policies and --calls are needed")
	}
	a, r, done, err := e.openDecision(ctx, files[0], *from)
	if err != nil {
		return err
	}
	defer done()
	b, err := openPolicy(ctx, files[1])
	if err != nil {
		return err
	}
	defer b.decider.Close(ctx)
	return diffCalls(ctx, e.Stdout, a, b, r, *asJSON)
}

func diffCalls(ctx context.Context, out io.Writer, a, b *replayer, r io.Reader, asJSON bool) error {
	sum := map[string]int{"calls": 0, "changed": 0, "newly_permitted": 0, "newly_denied": 0}
	err := eachLine(ctx, r, func(n int, line []byte) error {
		before, after := a.line(ctx, line), b.line(ctx, line)
		sum["calls"]++
		if before.Permit == after.Permit && before.Rule == after.Rule {
			return nil
		}
		sum["changed"]++
		switch {
		case !before.Permit && after.Permit:
			sum["newly_permitted"]++
		case before.Permit && !after.Permit:
			sum["newly_denied"]++
		}
		return printChange(out, n, line, before, after, asJSON)
	})
	if err != nil {
		return err
	}
	if asJSON {
		return printLine(out, map[string]any{"summary": sum})
	}
	_, err = fmt.Fprintf(out, "%d calls, %d decided differently: %d newly permitted, %d newly denied\n",
		sum["calls"], sum["changed"], sum["newly_permitted"], sum["newly_denied"])
	return err
}

func printChange(out io.Writer, n int, line []byte, before, after policy.Decision, asJSON bool) error {
	if asJSON {
		if !json.Valid(line) {
			line = []byte("null")
		}
		return printLine(out, changedJSON{n, line, before, after})
	}
	c, _ := parseCall(line) // what cannot be read is denied by both, and never gets here
	_, err := fmt.Fprintf(out, "call of line %d, %s: %s on %s\n  %s\n  %s\n", n, plain(c.agent.Name), plain(c.call.Action), plain(c.call.Resource),
		inWords(before), inWords(after))
	return err
}

// inWords is a decision in a line.
func inWords(d policy.Decision) string {
	if d.Permit {
		return "permit by " + d.Rule
	}
	return "deny: " + plain(strings.Join(d.Reasons, "; "))
}
