package compile

import (
	"bytes"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/open-policy-agent/opa/v1/format"

	"omega/policy"
)

// unknownAgent is the reason for an agent that the policy does not name.
const unknownAgent = "the policy has no rules for this agent"

// maxMay bounds the list of what an agent may use, in a reason.
const maxMay = 500

// generate writes the Rego of a document.
func generate(doc *policy.Document) ([]byte, error) {
	g := &generator{doc: doc, names: map[string]bool{}}
	g.line("# Made by `omega policy compile` for platform %q. Do not edit.", doc.Platform)
	g.line("# What no permit allows is denied.")
	g.line("package omega")
	g.out.WriteString(prelude)
	if len(doc.Rego) == 0 {
		g.line("\n# The document alone made this policy, so every decision ends by itself.\nbounded := true")
	}
	for _, a := range doc.Agents {
		g.agent(a)
	}
	if g.clash != "" {
		return nil, fmt.Errorf("two rules of the name %s", g.clash)
	}
	return format.Source("policy.rego", g.out.Bytes())
}

type generator struct {
	doc   *policy.Document
	out   bytes.Buffer
	names map[string]bool // of rules that stand for one thing of the document
	clash string
}

// own takes a name for one thing of the document. Two things under one name
// would be met when either is: that must not happen unseen.
func (g *generator) own(name string) string {
	if g.names[name] {
		g.clash = name
	}
	g.names[name] = true
	return name
}

func (g *generator) line(format string, args ...any) {
	fmt.Fprintf(&g.out, format+"\n", args...)
}

// at is the place of a call in the tables: one look-up finds its rules,
// however many there are.
func at(a policy.AgentRule, action, resource string) string {
	return fmt.Sprintf("[%s][%s][%s]", quote(a.Name), quote(action), quote(resource))
}

func (g *generator) agent(a policy.AgentRule) {
	g.line("\n# Agent %s.", a.Name)
	g.line("may[%s] := %s", quote(a.Name), quote(g.may(a)))
	g.allCalls(a)
	for _, p := range a.Permits {
		g.permit(a, p)
	}
	for _, p := range a.Implied() {
		g.line("\n# %s has %s of %s by itself, since it may use something of it.", a.Name, p.Action, p.Resource)
		g.line("permit%s contains %s if {", at(a, p.Action, p.Resource), g.answer(p, p.Resource))
		g.line("input.args == {}\n%s\n}", all(a))
	}
	g.line("\n# A caller's request to %s; who may call is decided before.", a.Name)
	input := a.Input
	if input == nil {
		input = &policy.Result{Integrity: policy.Trusted}
	}
	labels := policy.LabelsOf(input, policy.ActionInvoke)
	g.line("permit%s contains [%s, [%s]] if true", at(a, policy.ActionInvoke, a.Name), quote(policy.RuleInvoke), strings.Join(quoteAll(labels), ", "))
	g.answering(a)
}

// may is the reason for what no permit of an agent names.
func (g *generator) may(a policy.AgentRule) string {
	var list []string
	for _, p := range a.Permits {
		list = append(list, p.Names()...)
	}
	sort.Strings(list)
	if len(list) == 0 {
		return "this agent may use nothing"
	}
	text := "this agent may not use this; permitted are: " + strings.Join(slices.Compact(list), ", ")
	if len(text) > maxMay {
		text = text[:maxMay] + "…"
	}
	return text
}

// allCalls writes what every call of an agent must meet.
func (g *generator) allCalls(a policy.AgentRule) {
	g.line("\n%s if {\ntrue", g.own(all(a)))
	if a.Limit > 0 {
		g.line("calls_left(%s, %d)", quote("*"), a.Limit)
	}
	if a.Rate != nil {
		g.line("rate_left(%s, %d)", quote("*"), a.Rate.Calls)
	}
	g.line("}")
}

// answer is what a met permit says: its rule, and what the result is labelled with.
func (g *generator) answer(p policy.Permit, resource string) string {
	labels := policy.LabelsOf(g.doc.ResultOf(p, resource), resource)
	return fmt.Sprintf("[%s, [%s]]", quote(p.ID), strings.Join(quoteAll(labels), ", "))
}

// permit writes one rule, and the reasons that explain why it was not met.
func (g *generator) permit(a policy.AgentRule, p policy.Permit) {
	id := ident(p.ID)
	g.line("\n# %s: %s may use %s on %s.", p.ID, a.Name, p.Action, strings.Join(p.Names(), ", "))
	for _, r := range p.Names() {
		g.line("permit%s contains %s if {\nmet_%s\nflow(%s)", at(a, p.Action, r), g.answer(p, r), id, g.readers(p, r))
		if p.Approval != "" {
			g.line("approved(%s)", quote(p.Approval))
		}
		g.line("}")
	}
	g.line("\n%s if {\n%s\nis_object(input.args)", g.own("met_"+id), all(a))
	g.argsMet(id, p)
	for _, c := range g.conditions(a, p) {
		g.line("%s", c.rego)
	}
	g.line("}")
	g.args(id, p)
	g.influence(id, p)
	g.windows(id, p)
	g.reasons(a, id, p)
}

// argsMet writes the conditions on the arguments as a whole.
func (g *generator) argsMet(id string, p policy.Permit) {
	if !p.MoreArgs {
		g.line("every name, value in input.args { arg_%s(name, value) }", id)
	} else {
		for _, name := range sortedKeys(p.Args) {
			g.line("every value in [value | value := input.args[%s]] { arg_%s(%s, value) }", quote(name), id, quote(name))
		}
	}
	for _, name := range required(p.Args) {
		g.line("%s in object.keys(input.args)", quote(name))
	}
	for _, name := range p.Recipients {
		g.line("every value in [value | value := input.args[%s]] { recipients_may_know(value) }", quote(name))
	}
}

// args writes what each argument must be; a name without a rule is not met.
func (g *generator) args(id string, p policy.Permit) {
	names := sortedKeys(p.Args)
	for i, name := range names {
		fn := fmt.Sprintf("is_%s_%d", id, i+1)
		g.line("\n# argument %q must be %s", name, describe(p.Args[name]))
		g.line("arg_%s(name, value) if {\nname == %s\n%s(value)\n}", id, quote(name), fn)
		g.constraint(fn, p.Args[name])
	}
	var open []string
	for _, name := range stated(p.Action) {
		if _, named := p.Args[name]; !named {
			open = append(open, name)
		}
	}
	if len(open) > 0 && !p.MoreArgs {
		g.line("\n# stated by the gateway, and not constrained here")
		g.line("arg_%s(name, _) if name in {%s}", id, strings.Join(quoteAll(open), ", "))
	}
	if len(open)+len(names) == 0 && !p.MoreArgs {
		g.line("\narg_%s(_, _) if false", id)
	}
}

// stated are the arguments that the gateway states for an action.
func stated(action string) []string {
	a, _ := policy.ActionNamed(action)
	return a.Args
}

// readers lists who reads what a call sends, those that an argument names left out.
func (g *generator) readers(p policy.Permit, resource string) string {
	readers := g.doc.ReadersOf(p, resource)
	if len(p.Recipients) > 0 && len(p.Readers) == 0 && slices.Equal(readers, []string{policy.Public}) {
		readers = nil
	}
	return "[" + strings.Join(quoteAll(readers), ", ") + "]"
}

// required lists the arguments that must be present.
func required(args map[string]policy.Constraint) []string {
	var out []string
	for _, name := range sortedKeys(args) {
		if !args[name].Optional {
			out = append(out, name)
		}
	}
	return out
}

// ident makes a Rego identifier of a rule's id, which has no underscore.
func ident(id string) string { return strings.ReplaceAll(id, "-", "_") }

// all is the rule of what every call of an agent must meet. The name's hyphens,
// dots and underscores are told apart.
func all(a policy.AgentRule) string {
	return "all_" + strings.NewReplacer("_", "_u", "-", "_h", ".", "_d").Replace(a.Name)
}

func sortedKeys[T any](m map[string]T) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}
