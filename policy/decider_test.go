package policy_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	opa "github.com/open-policy-agent/opa/v1/compile"

	"omega/policy"
)

// build compiles Rego without any of the front end's care.
func build(t *testing.T, entrypoint, rego string) []byte {
	t.Helper()
	wasm, err := policyWasm(entrypoint, rego)
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

func policyWasm(entrypoint, rego string) ([]byte, error) {
	b := &bundle.Bundle{
		Manifest: bundle.Manifest{Roots: &[]string{"omega"}},
		Modules:  []bundle.ModuleFile{{URL: "p.rego", Path: "p.rego", Raw: []byte(rego), Parsed: ast.MustParseModuleWithOpts(rego, ast.ParserOptions{RegoVersion: ast.RegoV1})}},
		Data:     map[string]any{},
	}
	b.SetRegoVersion(ast.RegoV1)
	c := opa.New().WithTarget(opa.TargetWasm).WithEntrypoints(entrypoint).WithBundle(b).WithRegoVersion(ast.RegoV1)
	if err := c.Build(context.Background()); err != nil {
		return nil, err
	}
	return c.Bundle().WasmModules[0].Raw, nil
}

func load(t *testing.T, rego string) *policy.Decider {
	t.Helper()
	d, err := policy.NewDecider(context.Background(), build(t, policy.Entrypoint, rego))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close(context.Background()) })
	return d
}

const input = `{"action":"a","agent":{"instance":"i","name":"n"},"args":{"x":1},"resource":"r","state":{"counts":{},"labels":[]}}`

const permit = `{"decision":"permit","rule":"r","reasons":[],"labels":[]}`

func TestWhateverIsNotAPermitIsADenial(t *testing.T) {
	tests := []struct{ name, rego, want string }{
		{"undefined", "package omega\ndecision := " + permit + " if input.args.y", "does not decide"},
		{"wrong type", "package omega\ndecision := true", "unreadable result"},
		{"unknown word", `package omega
decision := {"decision":"allow","rule":"r","reasons":[],"labels":[]}`, "unreadable result"},
		{"permit without a rule", `package omega
decision := {"decision":"permit","rule":"","reasons":[],"labels":[]}`, "unreadable result"},
		{"permit with reasons", `package omega
decision := {"decision":"permit","rule":"r","reasons":["but"],"labels":[]}`, "unreadable result"},
		{"unknown field", `package omega
decision := {"decision":"permit","rule":"r","reasons":[],"labels":[],"also":1}`, "unreadable result"},
		{"conflict", `package omega
decision := {"decision":"permit","rule":n,"reasons":[],"labels":[]} if some n in ["a","b"]`, "policy evaluation"},
		{"failing builtin", "package omega\ndecision := " + permit + ` if to_number("9e") == 1`, "policy evaluation: policy called opa_abort"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got := load(t, tc.rego).Decide(context.Background(), []byte(input))
			if got.Permit || len(got.Reasons) != 1 || !strings.Contains(got.Reasons[0], tc.want) {
				t.Errorf("got %+v, want a denial with %q", got, tc.want)
			}
		})
	}
}

func TestModulesOfAnotherKindAreNotLoaded(t *testing.T) {
	tests := map[string][]byte{
		"nothing":           nil,
		"text":              []byte("package omega"),
		"empty module":      []byte("\x00asm\x01\x00\x00\x00"),
		"another entry":     build(t, "omega/other", "package omega\nother := true"),
		"functions of ours": build(t, policy.Entrypoint, "package omega\ndecision := sprintf(\"%v\", [input])"),
		"clock":             build(t, policy.Entrypoint, "package omega\ndecision := time.now_ns()"),
	}
	for name, wasm := range tests {
		if d, err := policy.NewDecider(context.Background(), wasm); err == nil {
			_ = d.Close(context.Background())
			t.Errorf("%s: loaded", name)
		}
	}
}

func TestNothingIsKeptBetweenDecisions(t *testing.T) {
	d := load(t, "package omega\ndecision := "+permit+` if input.resource == "r"`)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 200 {
				in := input
				if i%2 == 0 {
					in = strings.Replace(input, `"r"`, `"other"`, 1)
				}
				if got := d.Decide(context.Background(), []byte(in)); got.Permit != (i%2 == 1) {
					t.Errorf("worker %d: %+v", i, got)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestLongReasonsAreCutToWhatTheLogTakes(t *testing.T) {
	d := load(t, `package omega
decision := {"decision":"deny","rule":"","reasons":["short", "`+strings.Repeat("né", 700)+`"],"labels":[]}`)
	got := d.Decide(context.Background(), []byte(input))
	if len(got.Reasons) != 2 || got.Reasons[0] != "short" {
		t.Fatalf("%q", got.Reasons)
	}
	if long := got.Reasons[1]; len(long) > 1<<10 || len(long) < 800 || !utf8.ValidString(long) || !strings.HasSuffix(long, "…") {
		t.Errorf("%d bytes: %q", len(long), long)
	}
}

func TestClosedDeciderDenies(t *testing.T) {
	d := load(t, "package omega\ndecision := "+permit)
	if err := d.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := d.Decide(context.Background(), []byte(input)); got.Permit {
		t.Error("permitted")
	}
}

func TestDecisionsHaveOneForm(t *testing.T) {
	b, err := json.Marshal(policy.Decision{})
	if err != nil || string(b) != `{"decision":"deny","labels":[],"reasons":[],"rule":""}` {
		t.Errorf("the zero decision is %s (%v)", b, err)
	}
	want := policy.Decision{Permit: true, Rule: "r", Labels: []string{"x"}}
	b, err = json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got policy.Decision
	if err := json.Unmarshal(b, &got); err != nil || !got.Permit || got.Rule != "r" || !slices.Equal(got.Labels, want.Labels) {
		t.Errorf("%s reads as %+v (%v)", b, got, err)
	}
}

func FuzzParseJSON(f *testing.F) {
	f.Add([]byte(`{"version":"omega/policy/v1","platform":"p","principals":[],"auditors":[],"servers":[],"models":[],"agents":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := policy.ParseJSON(b)
		if err != nil {
			return
		}
		text, err := d.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := policy.ParseJSON(text); err != nil {
			t.Fatalf("own form %s: %v", text, err)
		}
	})
}
