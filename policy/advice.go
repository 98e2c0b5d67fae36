package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Advice names what is right and yet seldom meant, for whoever wrote the policy.
func (d *Document) Advice() []string {
	var out []string
	for _, a := range d.Agents {
		if !slices.ContainsFunc(a.Permits, func(p Permit) bool { return p.Consequential }) {
			continue
		}
		for _, p := range a.Permits {
			for _, r := range p.Names() {
				if res := d.ResultOf(p, r); res != nil && res.Integrity == Trusted {
					continue
				}
				switch {
				case strings.HasPrefix(p.Action, "llm."):
					out = append(out, fmt.Sprintf("agent %s: answers of model %s are untrusted, so the first one ends consequential calls that are not endorsed; "+
						"they carry the labels of what the model was given in any case", a.Name, r))
				case p.Consequential:
					out = append(out, fmt.Sprintf("agent %s: the result of %s is untrusted, so using it once (rule %s) ends consequential calls that are not endorsed; "+
						"a mere confirmation is trusted", a.Name, r, p.ID))
				}
			}
		}
	}
	return out
}
