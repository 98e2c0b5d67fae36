package compile

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/rego"

	"omega/internal/strictjson"
	"omega/policy"
)

func decider(t testing.TB, o *Output) *policy.Decider {
	t.Helper()
	d, err := policy.NewDecider(context.Background(), o.Wasm)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close(context.Background()) })
	return d
}

func call(resource, args string) policy.Input {
	return policy.Input{
		Agent:  policy.InputAgent{Name: "a", Instance: "a-1"},
		Action: policy.ActionCall, Resource: resource, Args: json.RawMessage(args),
	}
}

func TestOnlyWhatThePermitsSayIsPermitted(t *testing.T) {
	tests := []struct {
		resource string
		yes, no  []string
	}{
		{"t/path", []string{`{"p":"/data/public"}`, `{"p":"/data/public/"}`, `{"p":"/data/public/a/b.txt"}`, `{"p":"/data/public/..a"}`, `{"p":"/data/public/a..b/.c"}`},
			[]string{`{}`, `{"p":null}`, `{"p":1}`, `{"p":["/data/public"]}`, `{"p":""}`, `{"p":"/"}`, `{"p":"/data"}`, `{"p":"/data/publicx"}`,
				`{"p":"/data/public/.."}`, `{"p":"/data/public/../secret"}`, `{"p":"/data/public/a/../../../etc/passwd"}`, `{"p":"/data/public/./a"}`,
				`{"p":"/data/public//a"}`, `{"p":"//data/public/a"}`, `{"p":"/data/public/a//"}`, `{"p":"data/public/a"}`, `{"p":" /data/public/a"}`,
				`{"p":"/data/public/%2e%2e/x"}`, `{"p":"/data/public/%2E%2E%2Fx"}`, `{"p":"/data/public/%252e"}`, `{"p":"/data/public\\..\\x"}`,
				`{"p":"/data/public/\u0000"}`, `{"p":"/data/public/a\n"}`, `{"p":"/data/public/\u007f"}`, `{"p":"/data/public/．．/x"}`, `{"p":"/data/public/‥/x"}`,
				`{"p":"/data/public∕..∕x"}`, `{"p":"/data/public/︰/x"}`, `{"p":"/data/public/％2e％2e/x"}`, `{"p":"/data/public/.\u206a./x"}`,
				`{"p":"/data/public/.\u00ad./x"}`, `{"p":"/data/public/.../x"}`, `{"p":"/data/public/.. /x"}`, `{"p":"/data/public/ "}`, `{"p":"/data/public/℅x"}`, `{"p":"/data/public/a","q":1}`, `{"p":"/data/public/a","P":"/x"}`, `{"P":"/data/public/a"}`}},
		{"t/root", []string{`{"p":"/x"}`}, []string{`{"p":"x"}`, `{"p":"/../x"}`, `{"p":""}`}},
		{"t/relative", []string{`{"p":"notes/a"}`, `{"p":"notes"}`}, []string{`{"p":"/notes/a"}`, `{"p":"notes/../x"}`, `{"p":"../notes"}`, `{"p":"notes/01234567890123456789"}`}},
		{"t/equals", []string{`{"v":"yes"}`, `{"v":"yes","n":5}`, `{"v":"yes","n":5,"b":false}`},
			[]string{`{"v":"Yes"}`, `{"v":["yes"]}`, `{"n":5}`, `{"v":"yes","n":"5"}`, `{"v":"yes","b":true}`, `{"v":"yes","b":null}`, `{"v":"yes","n":null}`}},
		{"t/enum", []string{`{"v":"red"}`, `{"v":3}`, `{"v":true}`}, []string{`{"v":"3"}`, `{"v":false}`, `{"v":"blue"}`, `{"v":["red"]}`, `{"v":null}`}},
		{"t/pattern", []string{`{"v":"abc"}`, `{"v":"é"}`}, []string{`{"v":"abc1"}`, `{"v":"1abc"}`, `{"v":"abc\n"}`, `{"v":"x\nabc"}`, `{"v":""}`, `{"v":"aé"}`, `{"v":5}`}},
		{"t/range", []string{`{"v":-1.5}`, `{"v":10}`, `{"v":0}`, `{"v":1e1}`}, []string{`{"v":-1.6}`, `{"v":10.000001}`, `{"v":null}`, `{"v":false}`, `{"v":"5"}`, `{"v":[]}`, `{"v":9007199254740993}`}},
		{"t/most", []string{`{"v":10}`, `{"v":-1e9}`}, []string{`{"v":11}`, `{"v":null}`, `{"v":false}`, `{"v":true}`}},
		{"t/least", []string{`{"v":0}`}, []string{`{"v":-1}`, `{"v":"x"}`, `{"v":[]}`, `{"v":{}}`}},
		{"t/whole", []string{`{"v":0}`, `{"v":100}`, `{"v":5.0}`}, []string{`{"v":0.5}`, `{"v":101}`, `{"v":-1}`, `{"v":true}`}},
		{"t/text", []string{`{"v":"ab"}`, `{"v":"äöüß"}`, `{"v":"😀😀😀😀"}`}, []string{`{"v":"a"}`, `{"v":"abcde"}`, `{"v":["a","b"]}`, `{"v":{"a":1,"b":2}}`}},
		{"t/flag", []string{`{"v":true}`, `{"v":false}`}, []string{`{"v":0}`, `{"v":"true"}`, `{"v":null}`}},
		{"t/each", []string{`{"v":["x@a.b"]}`, `{"v":["@a.b","y@a.b"]}`}, []string{`{"v":[]}`, `{"v":["x@a.b","x@evil"]}`, `{"v":"x@a.b"}`, `{"v":["x@a.b",1]}`, `{"v":{"k":"x@a.b"}}`, `{"v":["1@a.b","2@a.b","3@a.b","4@a.b"]}`, `{"v":["x@a.b\n"]}`, `{"v":[["x@a.b"]]}`}},
		{"t/some", []string{`{"v":["boss"]}`, `{"v":["a","boss"]}`}, []string{`{"v":[]}`, `{"v":["a"]}`, `{"v":["boss",1]}`}},
		{"t/sum", []string{`{"v":[]}`, `{"v":[5,5]}`, `{"v":[0.5]}`}, []string{`{"v":[5,6]}`, `{"v":[100,-95]}`, `{"v":["5"]}`, `{"v":5}`, `{"v":[null]}`}},
		{"t/object", []string{`{"v":{"to":"x"}}`, `{"v":{"to":"x","n":3,"deep":{"x":true}}}`}, []string{`{"v":{}}`, `{"v":{"to":"x","cc":"y"}}`, `{"v":{"to":"x","n":4}}`, `{"v":{"to":"x","deep":{}}}`, `{"v":{"to":"x","deep":{"x":true,"y":1}}}`, `{"v":[]}`, `{"v":"x"}`}},
		{"t/limited", []string{`{}`}, []string{`{"x":1}`}},
		{"t/two", []string{`{"v":"one"}`, `{"v":"two"}`}, []string{`{"v":"three"}`}},
		{"t/none", nil, []string{`{}`}},
		{"path", nil, []string{`{"p":"/data/public"}`}},
	}
	d := decider(t, mustCompile(t, "testdata/rich.yaml"))
	for _, tc := range tests {
		for _, args := range tc.yes {
			if got := decide(t, d, call(tc.resource, args)); !got.Permit {
				t.Errorf("%s %s is denied: %q", tc.resource, args, got.Reasons)
			}
		}
		for _, args := range tc.no {
			got := decide(t, d, call(tc.resource, args))
			if got.Permit {
				t.Errorf("%s %s is permitted by %s", tc.resource, args, got.Rule)
			}
			if len(got.Reasons) == 0 {
				t.Errorf("%s %s is denied without a reason", tc.resource, args)
			}
		}
	}
}

func decide(t testing.TB, d *policy.Decider, in policy.Input) policy.Decision {
	t.Helper()
	text, err := in.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return d.Decide(context.Background(), text)
}

func TestOthersAndOtherActionsAreDenied(t *testing.T) {
	d := decider(t, mustCompile(t, "testdata/rich.yaml"))
	ok := call("t/path", `{"p":"/data/public"}`)
	tests := []struct {
		name   string
		change func(*policy.Input)
	}{
		{"another agent", func(in *policy.Input) { in.Agent.Name = "idle" }},
		{"unknown agent", func(in *policy.Input) { in.Agent.Name = "A" }},
		{"no agent", func(in *policy.Input) { in.Agent = policy.InputAgent{} }},
		{"another action", func(in *policy.Input) { in.Action = policy.ActionList }},
		{"no action", func(in *policy.Input) { in.Action = "" }},
		{"longer resource", func(in *policy.Input) { in.Resource = "t/path/x" }},
	}
	if !decide(t, d, ok).Permit {
		t.Fatal("the unchanged call is denied")
	}
	for _, tc := range tests {
		in := ok
		tc.change(&in)
		if got := decide(t, d, in); got.Permit {
			t.Errorf("%s: permitted by %s", tc.name, got.Rule)
		}
	}
}

func TestLimitsCountCallsOfTheRule(t *testing.T) {
	d := decider(t, mustCompile(t, "testdata/rich.yaml"))
	for counts, want := range map[string]bool{
		`{}`: true, `{"limited":1}`: true, `{"limited":2}`: false, `{"limited":3}`: false,
		`{"limited":-1}`: false, `{"path":9}`: true,
		`{"limited":null}`: false, `{"limited":"0"}`: false, `{"limited":true}`: false, `{"limited":[]}`: false, `null`: false, `[]`: false,
	} {
		in := fmt.Sprintf(`{"action":"mcp.tools/call","agent":{"instance":"i","name":"a"},"args":{},"resource":"t/limited","state":{"counts":%s,"labels":[]}}`, counts)
		got := d.Decide(context.Background(), []byte(in))
		if got.Permit != want {
			t.Errorf("counts %s: permit %v (%q), want %v", counts, got.Permit, got.Reasons, want)
		}
	}
	in := call("t/limited", `{}`)
	in.State.Counts = map[string]int{"limited": 2}
	want := []string{"the limit of 2 calls is used up (rule limited)", "instead: wait"}
	if diff := cmp.Diff(want, decide(t, d, in).Reasons); diff != "" {
		t.Error(diff)
	}
}

func TestChatPermitsConstrainWhatTheGatewayStates(t *testing.T) {
	d := decider(t, mustCompile(t, "testdata/rich.yaml"))
	for args, want := range map[string]bool{
		`{"max_tokens":50,"tools":["search"],"messages":3,"stream":true,"request_bytes":9,"request_sha256":"00"}`: true,
		`{"max_tokens":51,"tools":[]}`:            false,
		`{"max_tokens":50,"tools":["other"]}`:     false,
		`{"max_tokens":50}`:                       false,
		`{"max_tokens":50,"tools":[],"secret":1}`: false,
	} {
		in := call("org/model-1", args)
		in.Action = policy.ActionChat
		if got := decide(t, d, in); got.Permit != want {
			t.Errorf("%s: %v %q", args, got.Permit, got.Reasons)
		}
	}
}

func TestReasonsStayShort(t *testing.T) {
	d := decider(t, mustCompile(t, "testdata/rich.yaml"))
	args := map[string]any{}
	for i := range 200 {
		args[strings.Repeat("x", 500)+fmt.Sprint(i)] = i
	}
	b, err := strictjson.Canonical(args)
	if err != nil {
		t.Fatal(err)
	}
	got := decide(t, d, call("t/path", string(b)))
	if got.Permit || len(got.Reasons) == 0 || len(got.Reasons) > 16 {
		t.Fatalf("%d reasons", len(got.Reasons))
	}
	for _, r := range got.Reasons {
		if len(r) > 200 {
			t.Errorf("reason of %d bytes", len(r))
		}
	}
}

// TestWasmDecidesAsOPADoes compares the measured Wasm with OPA's own evaluator
// on random calls near the border of what is permitted.
func TestWasmDecidesAsOPADoes(t *testing.T) {
	out := mustCompile(t, "testdata/rich.yaml")
	d := decider(t, out)
	options := []func(*rego.Rego){rego.Query("data.omega.decision"), rego.Module("policy.rego", string(out.Rego))}
	for _, m := range out.Document.Rego {
		options = append(options, rego.Module(m.Name+".rego", m.Text))
	}
	q, err := rego.New(options...).PrepareForEval(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	n := 4000
	if testing.Short() {
		n = 300
	}
	r := rand.New(rand.NewPCG(1, 2))
	permits := 0
	for range n {
		in := randomInput(r, out.Document)
		text, err := in.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, want := d.Decide(context.Background(), text), topdown(t, q, text)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s (-opa +wasm):\n%s", text, diff)
		}
		if got.Permit {
			permits++
		}
	}
	if permits < n/20 || permits > n*19/20 {
		t.Errorf("%d of %d permitted: the inputs no longer test the border", permits, n)
	}
}

func topdown(t *testing.T, q rego.PreparedEvalQuery, text []byte) policy.Decision {
	t.Helper()
	var in any
	dec := json.NewDecoder(strings.NewReader(string(text)))
	dec.UseNumber()
	if err := dec.Decode(&in); err != nil {
		t.Fatal(err)
	}
	rs, err := q.Eval(context.Background(), rego.EvalInput(in))
	if err != nil || len(rs) != 1 {
		t.Fatalf("opa: %v, %d results", err, len(rs))
	}
	b, err := json.Marshal(rs[0].Expressions[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	var out policy.Decision
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	out.Reasons = out.Reasons[:min(len(out.Reasons), 16)]
	return out
}

func randomInput(r *rand.Rand, doc *policy.Document) policy.Input {
	a := doc.Agents[0]
	if r.IntN(6) == 0 {
		a = doc.Agents[2]
	}
	p := a.Permits[r.IntN(len(a.Permits))]
	in := policy.Input{Agent: policy.InputAgent{Name: a.Name, Instance: "i"}, Action: p.Action, Resource: p.Names()[r.IntN(len(p.Names()))]}
	if r.IntN(20) == 0 {
		in.Agent.Name = "idle"
	}
	args := map[string]any{}
	for name, c := range p.Args {
		if r.IntN(10) > 0 {
			args[name] = randomFor(r, c, 3)
		}
	}
	if r.IntN(10) == 0 {
		args["extra"] = randomValue(r, 2)
	}
	in.Args, _ = strictjson.Canonical(args)
	in.State = randomState(r, p)
	return in
}

// randomState gives a state in which a rule is often met.
func randomState(r *rand.Rand, p policy.Permit) policy.InputState {
	some := func(list ...string) []string {
		return slices.DeleteFunc(list, func(string) bool { return r.IntN(3) > 0 })
	}
	s := policy.InputState{
		Counts: map[string]int{p.ID: r.IntN(4), "*": []int{0, 999, 1000}[r.IntN(3)]}, SessionCounts: map[string]int{p.ID: r.IntN(4)}, Rates: map[string]int{p.ID: r.IntN(5), "*": r.IntN(102)},
		Budgets: map[string]float64{"money": float64(r.IntN(60)), "tokens": float64(r.IntN(1100)), "bytes": 10, "cost": float64(r.IntN(6)), p.ID + ":points": float64(r.IntN(12))},
		Charges: map[string]float64{"tokens": float64(r.IntN(100)), "cost": r.Float64(), "bytes": float64(r.IntN(200000)), p.ID + ":money": 5, p.ID + ":points": 1},
		Now:     []int64{0, 1795514400, 1795561200, 1795564800, 1798761600, 1700000000}[r.IntN(6)] + int64(r.IntN(7))*86400,
		Labels:  []string{}, Approvals: some("boss", "acme"), Endorsed: some(p.Endorse...),
	}
	if r.IntN(2) == 0 {
		s.Labels = some("untrusted:t/url", "untrusted:x", "readers:me", "readers:boss,me", "readers:*@acme.example,me", "readers:", "odd")
	}
	if r.IntN(5) == 0 {
		s.Narrowed = some(p.ID, "other")
	}
	return s
}

// randomFor gives a value that often meets the constraint.
func randomFor(r *rand.Rand, c policy.Constraint, depth int) any {
	if r.IntN(4) == 0 || depth == 0 {
		return randomValue(r, 2)
	}
	switch {
	case c.Equals != nil:
		return c.Equals
	case len(c.Enum) > 0:
		return c.Enum[r.IntN(len(c.Enum))]
	case c.URL != nil:
		return []string{"https://a.example/pub/x", "http://x.b.example:8443/pub?q=1", "https://a.example", "https://b.example/pub", "https://user@a.example/pub", "https://a.example/pub/../x",
			"https://a.example:443/pub", "https://a.example#x", "HTTPS://A.example/pub/", "https://a.example\\@evil.example/pub", "https://evil.example?a.example/pub", "ftp://a.example/pub", "https:///pub", "a.example/pub", "https://xa.example/pub"}[r.IntN(15)]
	case c.Address != nil || len(c.Recipients) > 0:
		one := []string{"x@acme.example", "Bob@B.example", "team", "x@mail.b.example", "x@evil.example", "x@evil.example@acme.example", "x@acme.example.evil.example", "<x@acme.example>", "", "@acme.example", "x y@acme.example", "\"x@evil.example\"@acme.example", "x%40evil@acme.example"}
		a, b := one[r.IntN(len(one))], one[r.IntN(len(one))]
		return []any{a, a + ", " + b, a + ";" + b, []any{a, b}, []any{}, []any{a, 1.0}}[r.IntN(6)]
	case c.Prefix != "":
		return c.Prefix + "/" + []string{"a", "..", "./b", "a/b", "%2e", "\u0000", "é", "．．", "a//b", ""}[r.IntN(10)]
	case c.Each != nil:
		list := []any{}
		for range r.IntN(4) {
			list = append(list, randomFor(r, *c.Each, depth-1))
		}
		if c.Any != nil {
			list = append(list, randomFor(r, *c.Any, depth-1))
		}
		return list
	case c.MaxSum != nil:
		return []any{float64(r.IntN(8)), r.Float64() * 4}
	case len(c.Fields) > 0:
		m := map[string]any{}
		for name, f := range c.Fields {
			m[name] = randomFor(r, f, depth-1)
		}
		return m
	case c.Pattern != "":
		return []string{"abc", "x@a.b", "é", "", "abc\n", "😀"}[r.IntN(6)]
	case slices.Contains([]string{"number", "integer"}, c.Kind()):
		return []any{0.0, 1.5, -1.5, 10.0, 100.0, 3.0, 1e-9, math.Copysign(0, -1), 1e15}[r.IntN(9)]
	case c.Kind() == "boolean":
		return r.IntN(2) == 0
	}
	return strings.Repeat([]string{"a", "é", "😀"}[r.IntN(3)], r.IntN(6))
}

func randomValue(r *rand.Rand, depth int) any {
	switch n := r.IntN(8); {
	case n < 2 && depth > 0:
		list := []any{}
		for range r.IntN(3) {
			list = append(list, randomValue(r, depth-1))
		}
		return list
	case n == 2 && depth > 0:
		return map[string]any{"to": randomValue(r, depth-1), "x": randomValue(r, depth-1)}
	}
	return []any{nil, true, false, "", "x", "/data/public", 0.0, -1.0, 2.5, 1e20 / 1e12, "yes", "\u0000"}[r.IntN(12)]
}

func BenchmarkDecide(b *testing.B) {
	d := decider(b, mustCompile(b, "testdata/demo.yaml"))
	in := call("files/read_file", `{"path":"/data/public/a.txt"}`)
	in.Agent.Name = "reporter"
	text, err := in.Encode()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !d.Decide(context.Background(), text).Permit {
			b.Fatal("denied")
		}
	}
}
