package policy

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Remedy is a change after which the policy permits a call that it denied.
// It is found by deciding again, not by reading reasons.
type Remedy struct {
	Change string `json:"change"` // in words
	Rule   string `json:"rule"`   // that would permit
}

// whatIf is one change of an input. apply says whether there was anything to change.
type whatIf struct {
	words string
	apply func(*Input) bool
}

// Remedies says what would have to change for a call to be permitted: single
// changes first, pairs where no single one helps.
func (d *Document) Remedies(ctx context.Context, decide func(context.Context, []byte) Decision, in Input) []Remedy {
	changes := d.whatIfs(in)
	try := func(list ...whatIf) (Remedy, bool) {
		changed := in
		changed.State = in.State
		var words []string
		for _, c := range list {
			if !c.apply(&changed) {
				return Remedy{}, false
			}
			words = append(words, c.words)
		}
		text, err := changed.Encode()
		if err != nil {
			return Remedy{}, false
		}
		got := decide(ctx, text)
		return Remedy{Change: strings.Join(words, ", and "), Rule: got.Rule}, got.Permit
	}
	var out []Remedy
	for _, c := range changes {
		if r, ok := try(c); ok {
			out = append(out, r)
		}
	}
	for i := 0; i < len(changes) && len(out) == 0; i++ {
		for j := i + 1; j < len(changes); j++ {
			if r, ok := try(changes[i], changes[j]); ok {
				out = append(out, r)
			}
		}
	}
	return out
}

// whatIfs are the changes that are tried.
func (d *Document) whatIfs(in Input) []whatIf {
	out := []whatIf{
		{"no untrusted source had influenced the agent", func(in *Input) bool {
			return without(&in.State.Labels, func(l string) bool { return !strings.HasPrefix(l, labelReaders) })
		}},
		{"the agent had read nothing that only some may read", func(in *Input) bool {
			return without(&in.State.Labels, func(l string) bool { return strings.HasPrefix(l, labelReaders) })
		}},
		{"no limit, rate or budget were used up", func(in *Input) bool {
			used := len(in.State.Counts)+len(in.State.SessionCounts)+len(in.State.Rates)+len(in.State.Budgets) > 0
			in.State.Counts, in.State.SessionCounts, in.State.Rates, in.State.Budgets = nil, nil, nil, nil
			return used
		}},
		{"the rules that were taken away were given back", func(in *Input) bool {
			lost := len(in.State.Narrowed) > 0
			in.State.Narrowed = nil
			return lost
		}},
	}
	for _, p := range d.Principals {
		if slices.Contains(p.Roles, RoleApprover) {
			out = append(out, whatIf{p.Name + " approved it", func(in *Input) bool {
				in.State.Approvals = append(slices.Clone(in.State.Approvals), p.Name)
				return true
			}})
		}
	}
	out = append(out, d.endorsements(in)...)
	return append(out, lessArgs(in)...)
}

// endorsements try the arguments of each permit for the call as trusted values.
func (d *Document) endorsements(in Input) []whatIf {
	var out []whatIf
	rule, _ := d.Agent(in.Agent.Name)
	for _, p := range rule.Permits {
		if p.Action != in.Action || !slices.Contains(p.Names(), in.Resource) || len(p.Endorse) == 0 {
			continue
		}
		words := fmt.Sprintf("%s had values that the caller or another trusted source gave", strings.Join(p.Endorse, " and "))
		out = append(out, whatIf{words, func(in *Input) bool {
			in.State.Endorsed = p.Endorse
			return true
		}})
	}
	return out
}

// lessArgs tries the call without each of its arguments.
func lessArgs(in Input) []whatIf {
	args := parseArgs(in.Args)
	var out []whatIf
	for _, name := range slices.Sorted(maps.Keys(args)) {
		if len(out) == maxReasons {
			break
		}
		out = append(out, whatIf{fmt.Sprintf("argument %q were left out", name), func(in *Input) bool {
			less := maps.Clone(parseArgs(in.Args))
			delete(less, name)
			raw, err := json.Marshal(less)
			in.Args = raw
			return err == nil
		}})
	}
	return out
}

func without(list *[]string, drop func(string) bool) bool {
	kept := slices.DeleteFunc(slices.Clone(*list), drop)
	changed := len(kept) < len(*list)
	*list = kept
	return changed
}
