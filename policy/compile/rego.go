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

// prelude is the part that is the same in every policy. Permits are built of
// positive conditions only: a condition that errors or is undefined is not met,
// so it can only deny. `not` occurs in reasons alone, on which nothing depends.
const prelude = `
# The answer. Undefined, [] and errors are denials to every caller.
default decision := {"decision": "deny", "rule": "", "reasons": ["the policy does not decide this call"], "labels": []}

decision := {"decision": "permit", "rule": min(permits), "reasons": [], "labels": []} if {
	count(permits) > 0
} else := {"decision": "deny", "rule": "", "reasons": array.concat(sort(why), sort(advice)), "labels": []} if {
	count(permits) == 0
}

# under is met by a path inside of a folder that every reader takes for the same
# one: no part of dots and spaces alone, no "//", percent escape, backslash,
# control character, or character that looks like a dot, slash or percent.
under(value, folder) if {
	is_string(value)
	plain(value)
	startswith(concat("", [value, "/"]), concat("", [trim_suffix(folder, "/"), "/"]))
	every part in split(trim_suffix(trim_prefix(value, "/"), "/"), "/") {
		trim_left(part, ". ") != ""
	}
}

plain(value) if {
	trim_left(value, ` + "`" + plainASCII + "`" + `) == ""
} else if {
	regex.match(` + "`" + plainPath + "`" + `, value)
}

# calls_left is met while the instance has used a rule less often than its limit.
calls_left(rule, limit) if {
	used := object.get(input.state.counts, rule, 0)
	is_number(used)
	used >= 0
	used < limit
}
`

// plainASCII is what printable ASCII has but percent, backslash and backquote.
// A text of these characters alone has nothing left when they are trimmed away;
// nearly every path is one, and this is ten times faster than the pattern.
const plainASCII = " !\"#$&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_abcdefghijklmnopqrstuvwxyz{|}~"

// plainPath excludes C0 controls, DEL, percent, backslash, C1 controls, the
// invisible format characters and line separators, two slashes and a backslash
// of mathematics, and every character that a compatibility form (NFKC, NFKD)
// turns into text with a dot, slash, backslash or percent (Unicode TR 36,
// section 2; the list is of Unicode 16).
const plainPath = `^[^\x00-\x1f\x7f%\\\x{80}-\x{9f}\p{Cf}\p{Zl}\p{Zp}\x{2024}-\x{2026}\x{2044}\x{2100}\x{2101}\x{2105}\x{2106}` +
	`\x{2215}\x{2216}\x{2488}-\x{249b}\x{33c2}\x{33c7}\x{33d8}\x{fe19}\x{fe30}\x{fe52}\x{fe68}\x{fe6a}\x{ff05}\x{ff0e}\x{ff0f}\x{ff3c}\x{1f100}]+$`

// generate writes the Rego of a document.
func generate(doc *policy.Document) ([]byte, error) {
	g := &generator{doc: doc}
	g.line("# Made by `omega policy compile` for platform %q. Do not edit.", doc.Platform)
	g.line("# What no permit allows is denied.")
	g.line("package omega")
	g.out.WriteString(prelude)
	g.line("\n# The agents of the policy.")
	g.line("agents := [%s]", strings.Join(quoteAll(agentNames(doc)), ", "))
	g.line("\nwhy contains %s if not input.agent.name in agents", quote(unknownAgent))
	for _, a := range doc.Agents {
		g.agent(a)
	}
	g.line("\n# These four exist in every policy, also in one that permits nothing.")
	g.line("permits contains \"\" if false")
	g.line("near_any if false")
	g.line("why contains \"\" if false")
	g.line("advice contains \"\" if false")
	text, err := format.Source("policy.rego", g.out.Bytes())
	if err != nil {
		return nil, err
	}
	return text, nil
}

type generator struct {
	doc *policy.Document
	out bytes.Buffer
}

func (g *generator) line(format string, args ...any) {
	fmt.Fprintf(&g.out, format+"\n", args...)
}

func (g *generator) agent(a policy.AgentRule) {
	var may []string
	var servers []string
	for _, p := range a.Permits {
		g.permit(a, p)
		may = append(may, p.Resource)
		if server, _, ok := strings.Cut(p.Resource, "/"); ok && p.Action == policy.ActionCall {
			servers = append(servers, server)
		}
	}
	sort.Strings(servers)
	for _, s := range slices.Compact(servers) {
		g.listing(a, s)
	}
	sort.Strings(may)
	text := "this agent may not use this; permitted are: " + strings.Join(slices.Compact(may), ", ")
	if len(may) == 0 {
		text = "this agent may use nothing"
	}
	g.line("\nwhy contains %s if {", quote(text))
	g.line("input.agent.name == %s", quote(a.Name))
	g.line("not near_any\n}")
}

// listing lets an agent see the tools of a server of which it may call some.
func (g *generator) listing(a policy.AgentRule, server string) {
	g.line("\n# %s may list the tools of %s, since it may call some of them.", a.Name, server)
	g.line("permits contains %s if {", quote("list:"+server))
	g.line("input.agent.name == %s", quote(a.Name))
	g.line("input.action == %s", quote(policy.ActionList))
	g.line("input.resource == %s", quote(server))
	g.line("input.args == {}\n}")
}

// permit writes one rule, and the reasons that explain why it was not met.
func (g *generator) permit(a policy.AgentRule, p policy.Permit) {
	id := strings.ReplaceAll(p.ID, "-", "_")
	g.line("\n# %s: %s may use %s on %s.", p.ID, a.Name, p.Action, p.Resource)
	g.line("permits contains %s if {", quote(p.ID))
	g.line("near_%s", id)
	g.line("is_object(input.args)")
	g.line("every name, value in input.args { arg_%s(name, value) }", id)
	for _, name := range required(p.Args) {
		g.line("%s in object.keys(input.args)", quote(name))
	}
	if p.Limit > 0 {
		g.line("calls_left(%s, %d)", quote(p.ID), p.Limit)
	}
	g.line("}")
	g.line("\nnear_%s if {", id)
	g.line("input.agent.name == %s", quote(a.Name))
	g.line("input.action == %s", quote(p.Action))
	g.line("input.resource == %s\n}", quote(p.Resource))
	g.line("\nnear_any if near_%s", id)
	g.args(id, p)
	g.reasons(id, p)
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
	if p.Action == policy.ActionChat {
		for _, name := range policy.ChatArgs {
			if _, named := p.Args[name]; !named {
				open = append(open, name)
			}
		}
	}
	if len(open) > 0 {
		g.line("\n# stated by the gateway, and not constrained here")
		g.line("arg_%s(name, _) if name in {%s}", id, strings.Join(quoteAll(open), ", "))
	}
	if len(open)+len(names) == 0 {
		g.line("\narg_%s(_, _) if false", id)
	}
}

// reasons explains a denial. Nothing that permits depends on it.
func (g *generator) reasons(id string, p policy.Permit) {
	for _, name := range sortedKeys(p.Args) {
		text := fmt.Sprintf("argument %q must be %s", name, describe(p.Args[name]))
		g.line("\nwhy contains %s if {\nnear_%s", quote(text), id)
		g.line("some value in [value | value := input.args[%s]]\nnot arg_%s(%s, value)\n}", quote(name), id, quote(name))
	}
	for _, name := range required(p.Args) {
		g.line("\nwhy contains %s if {\nnear_%s", quote(fmt.Sprintf("argument %q is missing", name)), id)
		g.line("not %s in object.keys(input.args)\n}", quote(name))
	}
	known := sortedKeys(p.Args)
	if p.Action == policy.ActionChat {
		known = append(known, policy.ChatArgs...)
	}
	g.line("\nwhy contains text if {\nnear_%s\nsome name in object.keys(input.args)", id)
	if len(known) > 0 {
		g.line("not name in {%s}", strings.Join(quoteAll(known), ", "))
	}
	g.line(`text := concat("", ["argument \"", substring(name, 0, 80), "\" is not permitted for this call"])`)
	g.line("}")
	if p.Limit > 0 {
		text := fmt.Sprintf("the limit of %d calls is used up (rule %s)", p.Limit, p.ID)
		g.line("\nwhy contains %s if {\nnear_%s\nnot calls_left(%s, %d)\n}", quote(text), id, quote(p.ID), p.Limit)
	}
	if p.Instead != "" {
		g.line("\nadvice contains %s if near_%s", quote("instead: "+p.Instead), id)
	}
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

func agentNames(doc *policy.Document) []string {
	var out []string
	for _, a := range doc.Agents {
		out = append(out, a.Name)
	}
	return out
}

func sortedKeys[T any](m map[string]T) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}
