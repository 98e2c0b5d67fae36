package compile

import (
	"fmt"
	"strings"

	"omega/policy"
)

// reasons explains a denial. Nothing that permits depends on it.
func (g *generator) reasons(a policy.AgentRule, id string, p policy.Permit) {
	for _, name := range sortedKeys(p.Args) {
		text := fmt.Sprintf("argument %q must be %s", name, describe(p.Args[name]))
		g.line("\nwhy_%s contains %s if {", id, quote(text))
		g.line("some value in [value | value := input.args[%s]]\nnot arg_%s(%s, value)\n}", quote(name), id, quote(name))
	}
	for _, name := range required(p.Args) {
		g.line("\nwhy_%s contains %s if not %s in object.keys(input.args)", id, quote(fmt.Sprintf("argument %q is missing", name)), quote(name))
	}
	if !p.MoreArgs {
		g.line("\nwhy_%s contains text if {\nsome name in object.keys(input.args)", id)
		if known := append(sortedKeys(p.Args), stated(p.Action)...); len(known) > 0 {
			g.line("not name in {%s}", strings.Join(quoteAll(known), ", "))
		}
		g.line(`text := concat("", ["argument \"", substring(name, 0, 80), "\" is not permitted for this call"])` + "\n}")
	}
	for _, name := range p.Recipients {
		g.line("\nwhy_%s contains %s if {\nsome value in [value | value := input.args[%s]]\nnot recipients_may_know(value)\n}", id,
			fmt.Sprintf(`concat("", [%s, known_to])`, quote(fmt.Sprintf("argument %q names somebody who may not know what this agent has read; that is for ", name))), quote(name))
	}
	for _, c := range g.conditions(a, p) {
		g.line("\nwhy_%s contains %s if not %s", id, c.why, c.rego)
	}
	g.line("\nwhy_%s contains %s if not %s", id, quote("the agent's calls of all kinds are used up, or too many at a time"), all(a))
	for _, r := range p.Names() {
		g.tables(a, p, id, r)
	}
}

// tables files the reasons of a permit under one of its resources.
func (g *generator) tables(a policy.AgentRule, p policy.Permit, id, r string) {
	where, readers := at(a, p.Action, r), g.readers(p, r)
	g.line("\nwhy%s contains text if some text in why_%s", where, id)
	g.line("\nwhy%s contains concat(\"\", [%s, known_to]) if not flow(%s)", where,
		quote("what is sent there is read by "+strings.Trim(readers, "[]")+", and this agent has read what is only for "), readers)
	advice := "advice%s contains \"\" if false"
	if p.Instead != "" {
		advice = "advice%s contains " + strings.ReplaceAll(quote("instead: "+p.Instead), "%", "%%") + " if true"
	}
	g.line("\n"+advice, where)
	if p.Approval == "" {
		return
	}
	g.line("\nask%s contains %s if {\nmet_%s\nflow(%s)\n}", where, quote(p.Approval), id, readers)
	g.line("\nwhy%s contains %s if not approved(%s)", where, quote("each call needs an approval by "+p.Approval), quote(p.Approval))
}
