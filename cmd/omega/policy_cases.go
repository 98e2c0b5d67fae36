package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"omega/internal/strictjson"
	"omega/policy"
	"omega/policy/compile"
)

// casesReport is what `omega policy test` found.
type casesReport struct {
	Cases   int            `json:"cases"`
	Calls   int            `json:"calls"`
	Failed  []caseFailure  `json:"failed"`
	Rules   map[string]int `json:"rules"`  // permitted calls by rule
	Unused  []string       `json:"unused"` // rules that no case was permitted by
	Denials int            `json:"denials"`
}

type caseFailure struct {
	Case     string          `json:"case"`
	Call     int             `json:"call"`
	Expect   string          `json:"expect"`
	Decision policy.Decision `json:"decision"`
}

// runPolicyTest decides the cases beside a policy.
func runPolicyTest(ctx context.Context, e *env, args []string) error {
	fs := e.flags("policy")
	file := fs.String("policy", "", "policy in YAML")
	from := fs.String("cases", "", "cases in YAML; X_test.yaml beside X.yaml by default")
	asJSON := fs.Bool("json", false, "print JSON")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *file == "" && fs.NArg() == 1 {
		*file = fs.Arg(0)
	}
	if *file == "" {
		return errors.New("omega policy test: which policy?")
	}
	if *from == "" {
		*from = compile.CasesFile(*file)
	}
	cases, err := compile.ReadCases(*from)
	if err != nil {
		return err
	}
	p, err := openPolicy(ctx, *file)
	if err != nil {
		return err
	}
	defer p.decider.Close(ctx)
	r := p.try(ctx, cases)
	if *asJSON {
		err = printLine(e.Stdout, r)
	} else {
		err = r.print(e)
	}
	if err == nil && len(r.Failed) > 0 {
		err = exit(exitMismatch, fmt.Errorf("%d of %d cases' calls are not decided as expected", len(r.Failed), r.Calls))
	}
	return err
}

// try runs every case in a session of its own.
func (r *replayer) try(ctx context.Context, cases *compile.Cases) *casesReport {
	out := &casesReport{Cases: len(cases.Cases), Failed: []caseFailure{}, Rules: map[string]int{}, Unused: []string{}}
	for _, c := range cases.Cases {
		for i, want := range c.Calls {
			d := r.expected(ctx, c.Name, want)
			out.Calls++
			if d.Permit {
				out.Rules[d.Rule]++
			} else {
				out.Denials++
			}
			if !want.Met(d) {
				out.Failed = append(out.Failed, caseFailure{c.Name, i + 1, expectation(want), d})
			}
		}
	}
	for _, a := range r.doc.Agents {
		for _, p := range a.Permits {
			if out.Rules[p.ID] == 0 {
				out.Unused = append(out.Unused, p.ID)
			}
		}
	}
	return out
}

func (r *replayer) expected(ctx context.Context, session string, want compile.CaseCall) policy.Decision {
	c := call{
		agent:  policy.InputAgent{Name: want.Agent, Instance: want.Agent},
		call:   policy.Call{Session: session, Action: want.Action, Resource: want.Resource, Now: int64(want.Now), Approvals: want.Approvals},
		labels: want.Labels, outcome: policy.Outcome{Labels: want.Labels},
	}
	var err error
	if want.Args != nil {
		c.call.Args, err = strictjson.Canonical(want.Args)
	}
	if err == nil && want.Result != nil {
		c.outcome.Result, err = strictjson.Canonical(want.Result)
	}
	if err != nil {
		return policy.Deny(err.Error())
	}
	_, d := r.decide(ctx, c)
	return d
}

func expectation(c compile.CaseCall) string {
	return strings.TrimSpace(strings.Join([]string{c.Expect, c.Rule, c.Reason}, " "))
}

func (r *casesReport) print(e *env) error {
	for _, f := range r.Failed {
		got := f.Decision.Word() + " " + f.Decision.Rule + strings.Join(f.Decision.Reasons, "; ")
		if _, err := fmt.Fprintf(e.Stdout, "FAIL %s, call %d: want %s, got %s\n", f.Case, f.Call, f.Expect, got); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(e.Stdout, "%d cases, %d calls, %d denied, %d not as expected\n", r.Cases, r.Calls, r.Denials, len(r.Failed))
	if len(r.Unused) > 0 && err == nil {
		_, err = fmt.Fprintf(e.Stdout, "rules that no case uses: %s\n", strings.Join(r.Unused, ", "))
	}
	return err
}
