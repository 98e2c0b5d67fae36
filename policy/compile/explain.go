package compile

import (
	"fmt"
	"strings"

	"omega/policy"
)

// Explain says in words what a policy allows.
func Explain(doc *policy.Document) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Platform %s. What is not listed here is denied.\n", doc.Platform)
	for _, a := range doc.Agents {
		fmt.Fprintf(&b, "\nAgent %s, signed by", a.Name)
		for i, r := range a.Requires {
			if i > 0 {
				b.WriteString(" and")
			}
			fmt.Fprintf(&b, " %s as %s", r.Principal, r.Role)
		}
		if len(a.Combine) > 0 {
			fmt.Fprintf(&b, ", of components by %s alone", strings.Join(a.Combine, ", "))
		}
		if a.Sessions != "" {
			b.WriteString(", in a sandbox for each session")
		}
		b.WriteString(", may\n")
		for _, line := range amounts("all calls together", a.Limit, 0, a.Rate, a.Budgets) {
			fmt.Fprintf(&b, "  (%s)\n", line)
		}
		for _, p := range a.Permits {
			ExplainPermit(&b, p)
		}
	}
	return b.String()
}

// ExplainPermit puts one permit into words.
func ExplainPermit(b *strings.Builder, p policy.Permit) {
	fmt.Fprintf(b, "  %s on %s (rule %s)", p.Action, strings.Join(p.Names(), ", "), p.ID)
	if p.Limit > 0 {
		fmt.Fprintf(b, ", at most %d times in an instance", p.Limit)
	}
	b.WriteString("\n")
	for _, name := range sortedKeys(p.Args) {
		word := "must be"
		if p.Args[name].Optional {
			word = "if given, must be"
		}
		fmt.Fprintf(b, "    argument %q %s %s\n", name, word, describe(p.Args[name]))
	}
	if len(p.Args) == 0 && !p.MoreArgs && p.Action == policy.ActionCall {
		b.WriteString("    without arguments\n")
	}
	if p.MoreArgs {
		b.WriteString("    other arguments may have any value\n")
	}
	for _, line := range append(amounts("", 0, p.SessionLimit, p.Rate, p.Budgets), explainConditions(p)...) {
		fmt.Fprintf(b, "    %s\n", line)
	}
	if p.Instead != "" {
		fmt.Fprintf(b, "    otherwise it is told: %s\n", p.Instead)
	}
}

func amounts(what string, limit, session int, rate *policy.Rate, budgets map[string]float64) []string {
	var out []string
	add := func(format string, args ...any) {
		out = append(out, strings.TrimSpace(what+" "+fmt.Sprintf(format, args...)))
	}
	if limit > 0 {
		add("at most %d times in an instance", limit)
	}
	if session > 0 {
		add("at most %d times in a session", session)
	}
	if rate != nil {
		add("at most %d times in %d seconds", rate.Calls, rate.Seconds)
	}
	for _, name := range sortedKeys(budgets) {
		add("within a budget of %s %s", literal(budgets[name]), name)
	}
	return out
}

func explainConditions(p policy.Permit) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if p.Consequential && len(p.Endorse) == 0 {
		add("only while nothing untrusted has influenced the agent")
	}
	if len(p.Endorse) > 0 {
		add("once something untrusted has influenced the agent, only if %s have values of trusted sources", strings.Join(p.Endorse, ", "))
	}
	if len(p.Readers) > 0 {
		add("what it sends is read by %s", strings.Join(p.Readers, ", "))
	}
	if len(p.Recipients) > 0 {
		add("whom %s names must be allowed to know all that the agent has read", strings.Join(p.Recipients, ", "))
	}
	if p.Result != nil {
		add("its result is %s", describeResult(*p.Result))
	}
	if len(p.When) > 0 {
		add("only at %s (UTC)", describeWindows(p.When))
	}
	for _, c := range p.Conditions {
		add("only if condition %s of the policy's Rego holds", c)
	}
	if p.Approval != "" {
		add("each call needs an approval by %s", p.Approval)
	}
	if len(p.Narrows) > 0 {
		add("its use takes away the rules %s", strings.Join(p.Narrows, ", "))
	}
	return out
}

func describeResult(r policy.Result) string {
	text := policy.Untrusted
	if r.Integrity == policy.Trusted {
		text = policy.Trusted
	}
	if r.Endorses {
		text += ", and endorses arguments in any case"
	}
	if len(r.Readers) > 0 {
		text += ", for " + strings.Join(r.Readers, ", ") + " only"
	}
	return text
}
