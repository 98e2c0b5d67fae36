package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"omega/policy"
	"omega/policy/compile"
	"omega/policy/provenance"
)

// runLogReplay is `omega log replay`: it decides every intent of a verified log
// again, with the policy that should have decided it.
func runLogReplay(ctx context.Context, e *env, args []string) error {
	f := newLogFlags(e)
	file := f.set.String("policy", "", "the policy as YAML or Wasm `file`")
	o, err := f.options(ctx, e, args)
	if err != nil {
		return err
	}
	if *file == "" || o.Auditor == nil {
		return errors.New("omega log replay: --policy F and --key F are needed")
	}
	decider, err := loadDecider(ctx, *file)
	if err != nil {
		return err
	}
	defer decider.Close(ctx)
	r := replay{decide: func(in []byte) policy.Decision { return decider.Decide(ctx, in) }}
	o.Each = r.item
	sum, err := verifyLog(ctx, e, o)
	if err != nil {
		return err
	}
	for _, d := range r.differences {
		fmt.Fprintln(e.Stdout, d)
	}
	e.sayf("%d intents decided again, %d differ", r.count, len(r.differences))
	if len(r.differences) > 0 {
		return exit(exitMismatch, errors.New("the log was not decided by this policy"))
	}
	return judge(sum, true)
}

// loadDecider makes a decider from a policy's Wasm, or compiles its YAML first.
func loadDecider(ctx context.Context, path string) (*policy.Decider, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(string(b), "\x00asm") {
		out, err := compile.File(path)
		if err != nil {
			return nil, err
		}
		b = out.Wasm
	}
	return policy.NewDecider(ctx, b)
}

// replay compares decisions with those that were logged.
type replay struct {
	decide      func(input []byte) policy.Decision
	count       int
	differences []string
	counted     map[use]bool
}

// use is one permitted call: the gateway counts those of an instance by rule,
// so no two can have the same number.
type use struct {
	agent, rule string
	number      int
}

func (r *replay) item(item provenance.Item) error {
	x := item.Entry
	if x == nil || x.Kind != provenance.KindIntent {
		return nil
	}
	r.count++
	if why := r.differs(x); why != "" {
		r.differences = append(r.differences, fmt.Sprintf("entry %d: %s", item.Index, why))
	}
	return nil
}

// differs says what is wrong with an intent, or nothing.
func (r *replay) differs(x *provenance.Entry) string {
	in, err := policy.ParseInput(x.Input)
	if err != nil {
		return "its input cannot be decided again: " + plain(err.Error())
	}
	if in.Agent.Instance != x.Agent || in.Action != x.Action || in.Resource != x.Resource {
		return fmt.Sprintf("it is %s's %s on %s, but what was decided is %s's %s on %s", plain(x.Agent), plain(x.Action),
			plain(x.Resource), plain(in.Agent.Instance), plain(in.Action), plain(in.Resource))
	}
	d := r.decide(x.Input)
	if d.Word() != x.Decision || d.Rule != x.Rule || !slices.Equal(d.Reasons, x.Reasons) {
		return fmt.Sprintf("logged %s %s (%s), policy says %s %s (%s)", plain(x.Decision), plain(x.Rule),
			plain(strings.Join(x.Reasons, "; ")), d.Word(), d.Rule, plain(strings.Join(d.Reasons, "; ")))
	}
	if !d.Permit {
		return ""
	}
	this := use{x.Agent, d.Rule, in.State.Counts[d.Rule]}
	if r.counted[this] {
		return fmt.Sprintf("call %d of rule %s is counted twice", this.number+1, plain(d.Rule))
	}
	if r.counted == nil {
		r.counted = map[use]bool{}
	}
	r.counted[this] = true
	return ""
}
