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
		b.WriteString(", may\n")
		for _, p := range a.Permits {
			explainPermit(&b, p)
		}
	}
	return b.String()
}

func explainPermit(b *strings.Builder, p policy.Permit) {
	fmt.Fprintf(b, "  %s on %s (rule %s)", p.Action, p.Resource, p.ID)
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
	if len(p.Args) == 0 && p.Action == policy.ActionCall {
		b.WriteString("    without arguments\n")
	}
	if p.Instead != "" {
		fmt.Fprintf(b, "    otherwise it is told: %s\n", p.Instead)
	}
}
