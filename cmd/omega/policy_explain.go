package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"omega/policy"
	"omega/policy/compile"
)

// explainedJSON is one decision with what stands behind it.
type explainedJSON struct {
	Decision policy.Decision `json:"decision"`
	Rules    []string        `json:"rules"` // for this agent, action and resource
	Remedies []policy.Remedy `json:"remedies"`
}

// runPolicyExplain says in words what each agent may do, or why one call is
// decided as it is and what would have to change.
func runPolicyExplain(ctx context.Context, e *env, args []string) error {
	fs := e.flags("policy")
	file := fs.String("policy", "", "policy in YAML or Wasm")
	from := fs.String("input", "", "decision input or call in JSON; - is stdin")
	asJSON := fs.Bool("json", false, "print JSON")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *file == "" && fs.NArg() == 1 {
		*file = fs.Arg(0)
	}
	if *file == "" {
		return fmt.Errorf("policy explain: which policy?")
	}
	if *from != "" {
		return e.explainCall(ctx, *file, *from, *asJSON)
	}
	p, err := openPolicy(ctx, *file)
	if err != nil {
		return err
	}
	defer p.decider.Close(ctx)
	_, err = io.WriteString(e.Stdout, compile.Explain(p.doc))
	return err
}

func (e *env) explainCall(ctx context.Context, file, from string, asJSON bool) error {
	p, r, done, err := e.openDecision(ctx, file, from)
	if err != nil {
		return err
	}
	defer done()
	text, err := io.ReadAll(io.LimitReader(r, maxLine+1))
	if err != nil {
		return err
	}
	c, err := parseCall(text)
	if err != nil {
		return err
	}
	in, d := p.decide(ctx, c)
	out := explainedJSON{Decision: d, Rules: []string{}, Remedies: []policy.Remedy{}}
	rule, _ := p.doc.Agent(in.Agent.Name)
	var words strings.Builder
	for _, permit := range rule.Permits {
		if permit.Action == in.Action && slices.Contains(permit.Names(), in.Resource) {
			out.Rules = append(out.Rules, permit.ID)
			compile.ExplainPermit(&words, permit)
		}
	}
	if !d.Permit {
		out.Remedies = append(out.Remedies, p.doc.Remedies(ctx, p.decider.Decide, in)...)
	}
	if asJSON {
		return printLine(e.Stdout, out)
	}
	return out.print(e.Stdout, words.String())
}

func (x explainedJSON) print(out io.Writer, rules string) error {
	var b strings.Builder
	if x.Decision.Permit {
		fmt.Fprintf(&b, "permitted by rule %s\n", x.Decision.Rule)
	} else {
		b.WriteString("denied\n")
	}
	for _, r := range x.Decision.Reasons {
		fmt.Fprintf(&b, "  %s\n", plain(r))
	}
	if len(x.Decision.Labels) > 0 {
		fmt.Fprintf(&b, "  its result labels the agent: %s\n", strings.Join(x.Decision.Labels, ", "))
	}
	if rules == "" {
		b.WriteString("no rule is for this agent, action and resource\n")
	} else {
		b.WriteString("rules for this agent, action and resource:\n" + rules)
	}
	if !x.Decision.Permit && len(x.Remedies) == 0 && rules != "" {
		b.WriteString("no single change that was tried, and no two, would have it permitted\n")
	}
	for _, r := range x.Remedies {
		fmt.Fprintf(&b, "it would be permitted by %s if %s\n", r.Rule, r.Change)
	}
	_, err := io.WriteString(out, b.String())
	return err
}
