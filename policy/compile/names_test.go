package compile

import (
	"fmt"
	"strings"
	"testing"

	"omega/policy"
)

// TestNamesThatLookAlikeStayApart: in Rego two rules of one name are met when
// either is, so a name that means two things would widen both.
func TestNamesThatLookAlikeStayApart(t *testing.T) {
	agents := []string{"a-b", "a.b", "a_b", "a--b", "a-d-b", "a_d_b", "a_h_b", "a-_b", "a_-b", "a_hb", "a_ub"}
	rules := []string{"a", "a-1", "a-1-1", "a-1-f1", "a-1-each", "a-11", "a1", "a--1"}
	var b strings.Builder
	b.WriteString(agent + "      []\n")
	for i, name := range agents {
		limit := i + 1
		fmt.Fprintf(&b, "  - {name: %q, requires: [{role: author, principal: acme}], limit: %d, permits: [", name, limit)
		if i == 0 {
			for j, id := range rules {
				fmt.Fprintf(&b, "{id: %s, action: mcp.tools/call, resource: s/%s, args: {v: {fields: {x: {each: {equals: %d}}}}}},", id, id, j)
			}
		} else {
			fmt.Fprintf(&b, "{id: only-%d, action: mcp.tools/call, resource: s/x}", i)
		}
		b.WriteString("]}\n")
	}
	out, err := Compile([]byte(b.String()), "testdata")
	if err != nil {
		t.Fatal(err)
	}
	d := decider(t, out)
	for i, name := range agents {
		in := call("s/x", `{}`)
		if i == 0 {
			in = call("s/a", `{"v":{"x":[0]}}`)
		}
		in.Agent.Name = name
		for _, used := range []int{i, i + 1} {
			in.State.Counts = map[string]int{"*": used}
			if got := decide(t, d, in); got.Permit != (used == i) {
				t.Errorf("%s after %d calls of %d: permit %v", name, used, i+1, got.Permit)
			}
		}
	}
	for i, id := range rules {
		for j := range rules {
			in := call("s/"+id, fmt.Sprintf(`{"v":{"x":[%d]}}`, j))
			in.Agent.Name = agents[0]
			if got := decide(t, d, in); got.Permit != (i == j) {
				t.Errorf("%s with the value of %s: permit %v", id, rules[j], got.Permit)
			}
		}
	}
}

func TestTwoThingsOfOneNameAreRefused(t *testing.T) {
	g := &generator{doc: &policy.Document{}, names: map[string]bool{}}
	if g.own("met_x"); g.clash != "" {
		t.Error("a first use is refused")
	}
	if g.own("met_x"); g.clash != "met_x" {
		t.Error("a second use is not")
	}
}
