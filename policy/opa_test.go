package policy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	opa "github.com/open-policy-agent/opa/v1/compile"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/test/cases"
	"github.com/open-policy-agent/opa/v1/test/cases/testdata"
	"github.com/open-policy-agent/opa/v1/util"

	"omega/policy"
	"omega/policy/compile"
)

// TestWasmDecidesOPAsCasesAsOPADoes runs OPA's public cases, those that use
// only what a policy may use, in our Wasm and in OPA's own evaluator. Many
// cases share one module: each has its input, data and packages moved to a
// place of its own.
func TestWasmDecidesOPAsCasesAsOPADoes(t *testing.T) {
	all := opaCases(t)
	if testing.Short() {
		all = all[:min(len(all), 100)]
	}
	compared, valued := 0, 0
	for part := range slices.Chunk(all, 100) {
		b := newBatch(t, part)
		if b.raw == nil {
			continue // none that can be compared
		}
		for i, c := range part {
			if b.entries[i] == "" {
				continue
			}
			compared++
			if b.compare(t, i, c) {
				valued++
			}
		}
		b.raw.Close()
	}
	t.Logf("%d of OPA's %d cases compared, %d of them with a value", compared, len(all), valued)
	if !testing.Short() && (compared < 500 || valued < compared/3) {
		t.Errorf("%d cases compared, %d with a value: too few to mean anything", compared, valued)
	}
}

func opaCases(t *testing.T) []cases.TestCase {
	t.Helper()
	var out []cases.TestCase
	err := fs.WalkDir(testdata.V1, "v1", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := fs.ReadFile(testdata.V1, path)
		if err != nil {
			return err
		}
		var set cases.Set
		if err := util.Unmarshal(text, &set); err != nil {
			return err
		}
		out = append(out, set.Cases...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// plainQuery is a query for one rule.
var plainQuery = regexp.MustCompile(`^(data(?:\.[a-z0-9_]+)+)(?: = [a-z]+)?$`)

// ofTheStore are cases about OPA's store, which finds text keys by numbers. A
// policy here has no data document.
var ofTheStore = []string{"data/toplevel integer", "data/nested integer"}

// batch is many cases in one module.
type batch struct {
	entries []string // the rule of each case, "" for one that is left out
	raw     *policy.Raw
	query   rego.PreparedEvalQuery
}

func newBatch(t *testing.T, list []cases.TestCase) *batch {
	t.Helper()
	b := &batch{entries: make([]string, len(list))}
	modules, data := map[string]*ast.Module{}, map[string]any{}
	var main strings.Builder
	main.WriteString("package omega\n")
	for i, c := range list {
		at := fmt.Sprintf("c%d", i)
		entry, parsed := moved(c, at)
		if entry == "" {
			continue
		}
		b.entries[i] = entry
		for j, m := range parsed {
			modules[fmt.Sprintf("%s_%d.rego", at, j)] = m
		}
		data[at] = map[string]any{}
		if c.Data != nil {
			data[at] = *c.Data
		}
		fmt.Fprintf(&main, "decision := [x] if {\n\tinput.number == %d\n\tx := %s\n}\n", i, entry)
	}
	if len(modules) == 0 {
		return b
	}
	modules["main.rego"] = ast.MustParseModuleWithOpts(main.String(), ast.ParserOptions{RegoVersion: ast.RegoV1})
	raw, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	b.load(t, modules, raw)
	return b
}

func (b *batch) load(t *testing.T, modules map[string]*ast.Module, data []byte) {
	t.Helper()
	ctx := context.Background()
	whole := &bundle.Bundle{Manifest: bundle.Manifest{Roots: &[]string{""}}, Data: map[string]any{}}
	options := []func(*rego.Rego){rego.Query("data.omega.decision"), rego.GenerateJSON(asRego), rego.Store(inmem.NewFromReader(bytes.NewReader(data)))}
	for name, m := range modules {
		whole.Modules = append(whole.Modules, bundle.ModuleFile{URL: name, Path: name, Raw: []byte(m.String()), Parsed: m.Copy()})
		m.Package.Location = ast.NewLocation(nil, name, 1, 1) // ParsedModule files a module under this name
		options = append(options, rego.ParsedModule(m.Copy()))
	}
	slices.SortFunc(whole.Modules, func(a, b bundle.ModuleFile) int { return strings.Compare(a.Path, b.Path) })
	whole.SetRegoVersion(ast.RegoV1)
	c := opa.New().WithTarget(opa.TargetWasm).WithEntrypoints(policy.Entrypoint).WithBundle(whole).WithRegoVersion(ast.RegoV1)
	if err := c.Build(ctx); err != nil {
		t.Fatalf("wasm of a batch: %v", err)
	}
	var err error
	if b.raw, err = policy.NewRaw(ctx, c.Bundle().WasmModules[0].Raw, data); err != nil {
		t.Fatalf("loading a batch: %v", err)
	}
	if b.query, err = rego.New(options...).PrepareForEval(ctx); err != nil {
		t.Fatalf("opa's evaluator of a batch: %v", err)
	}
}

// compare reports whether the case has a value.
func (b *batch) compare(t *testing.T, i int, c cases.TestCase) bool {
	ctx := context.Background()
	in := map[string]any{"number": i}
	if c.Input != nil {
		in["input"] = *c.Input
	}
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var parsed any
	if err := util.UnmarshalJSON(text, &parsed); err != nil {
		t.Fatal(err)
	}
	want := "undefined"
	rs, err := b.query.Eval(ctx, rego.EvalInput(parsed))
	if err == nil && len(rs) == 1 {
		want = normal(t, fmt.Sprintf("{{\"result\": %s}}", rs[0].Expressions[0].Value), c.SortBindings)
	}
	got := "undefined"
	out, fault := b.raw.Eval(ctx, text)
	if fault == nil && out != "set()" && out != "[]" {
		got = normal(t, out, c.SortBindings)
	}
	if fault != nil {
		if err := b.raw.Reset(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-opa +wasm; opa %v, wasm %v)\n%s", c.Note, err, fault, diff)
	}
	return want != "undefined"
}

// normal is one text for equal values. Where OPA says that the order of a list
// means nothing (it came of a set), lists are sorted.
func normal(t *testing.T, text string, anyOrder bool) string {
	t.Helper()
	v, err := ast.ParseTerm(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if !anyOrder {
		return v.String()
	}
	sorted, err := ast.Transform(ast.NewGenericTransformer(func(x any) (any, error) {
		if list, ok := x.(*ast.Array); ok {
			return list.Sorted(), nil
		}
		return x, nil
	}), v)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(sorted)
}

// asRego keeps values as they are in Rego.
func asRego(v *ast.Term, _ *rego.EvalContext) (any, error) { return v.String(), nil }

// moved gives the rule of a case and its modules, with everything below
// data.AT, and its input below input.input. Cases of another form, or with
// functions that a policy cannot use, give "".
func moved(c cases.TestCase, at string) (string, []*ast.Module) {
	q := plainQuery.FindStringSubmatch(c.Query)
	if q == nil || slices.Contains(ofTheStore, c.Note) || c.InputTerm != nil || c.StrictError || c.ExperimentalKeywords || len(c.Env) > 0 || len(c.Modules) == 0 {
		return "", nil
	}
	caps := ast.CapabilitiesForThisVersion()
	caps.Builtins = slices.DeleteFunc(caps.Builtins, func(b *ast.Builtin) bool { return !slices.Contains(compile.Builtins(), b.Name) })
	parsed := map[string]*ast.Module{}
	var list []*ast.Module
	for i, text := range c.Modules {
		m, err := ast.ParseModuleWithOpts(fmt.Sprint(i), text, ast.ParserOptions{RegoVersion: ast.RegoV1, Capabilities: caps})
		if err != nil || m == nil {
			return "", nil
		}
		if m = move(m, at); m == nil {
			return "", nil
		}
		if _, err := ast.ParseModuleWithOpts("again", m.String(), ast.ParserOptions{RegoVersion: ast.RegoV1}); err != nil {
			return "", nil // a keyword as a name survives no printing
		}
		parsed[fmt.Sprint(i)] = m.Copy()
		list = append(list, m)
	}
	entry := "data." + at + strings.TrimPrefix(q[1], "data")
	parsed["main"] = ast.MustParseModuleWithOpts("package main_query\np := "+entry, ast.ParserOptions{RegoVersion: ast.RegoV1})
	compiler := ast.NewCompiler().WithCapabilities(caps)
	if compiler.Compile(parsed); compiler.Failed() {
		return "", nil
	}
	return entry, list
}

func move(m *ast.Module, at string) *ast.Module {
	out, err := ast.TransformRefs(m, func(r ast.Ref) (ast.Value, error) {
		place := ""
		switch {
		case r[0].Equal(ast.DefaultRootDocument):
			place = at
		case r[0].Equal(ast.InputRootDocument):
			place = "input"
		default:
			return r, nil
		}
		longer := ast.Ref{r[0], ast.StringTerm(place)}
		return append(longer, r[1:]...), nil
	})
	if err != nil {
		return nil
	}
	moved, _ := out.(*ast.Module)
	return moved
}
