package snp

import "fmt"

// Relaxations says in words what the policy accepts beyond the default one.
func (p *Policy) Relaxations() []string {
	var out []string
	for _, r := range []struct {
		is    bool
		words string
	}{
		{p.AllowDebug, "the host may decrypt and change the guest's memory (allow_debug)"},
		{p.AllowMigration, "a migration agent may move the guest to another machine (allow_migration)"},
		{p.AllowNoAliasCheck, "memory may not have been checked for aliases (allow_no_alias_check)"},
		{p.VMPL != 0, fmt.Sprintf("the report is of VMPL %d: software of a higher privilege is inside of the guest and trusted", p.VMPL)},
	} {
		if r.is {
			out = append(out, r.words)
		}
	}
	for _, f := range p.MinTCB {
		if words := f.relaxes(DefaultPolicy().MinTCB); words != "" {
			out = append(out, words)
		}
	}
	return out
}

// relaxes says how a floor accepts more than the default ones do.
func (f *Floor) relaxes(known []Floor) string {
	name := fmt.Sprintf("%s models %#02x to %#02x", f.Product, f.First, f.Last)
	covered := 0
	for _, d := range known {
		if d.Product != f.Product || d.Last < f.First || d.First > f.Last {
			continue
		}
		covered += int(min(d.Last, f.Last)) - int(max(d.First, f.First)) + 1
		if !f.TCB.AtLeast(d.TCB) {
			return fmt.Sprintf("the TCB floor of %s is %s, below the default %s", name, f.TCB, d.TCB)
		}
	}
	if covered < int(f.Last)-int(f.First)+1 {
		return fmt.Sprintf("%s are accepted from %s on; the default has no floor for all of them and refuses the rest", name, f.TCB)
	}
	return ""
}
