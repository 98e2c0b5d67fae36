package compile

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	opa "github.com/open-policy-agent/opa/v1/compile"

	"omega/policy"
)

// builtins are the functions that the generated Rego uses. OPA implements all
// of them inside of the Wasm, so the policy calls nothing outside of itself.
var builtins = []string{
	"and", "array.concat", "array.slice", "assign", "concat", "count", "div", "endswith", "eq", "equal", "floor", "gt", "gte",
	"internal.member_2", "internal.member_3", "is_array", "is_boolean", "is_number",
	"is_object", "is_string", "lower", "lt", "lte", "min", "neq", "object.get", "object.keys", "plus", "regex.match", "rem",
	"replace", "sort", "split", "startswith", "substring", "sum", "trim_left", "trim_prefix", "trim_space", "trim_suffix",
}

// customBuiltins may be used beside them by a document's own Rego.
var customBuiltins = []string{
	"abs", "all", "any", "array.reverse", "bits.and", "bits.or", "bits.xor", "ceil", "contains", "glob.match", "indexof",
	"intersection", "is_null", "is_set", "max", "minus", "mul", "net.cidr_contains", "numbers.range", "object.filter",
	"object.remove", "object.union", "or", "product", "round", "strings.reverse", "to_number", "trim",
	"trim_right", "type_name", "union", "upper",
}

// Builtins lists the functions that Rego in a policy may use.
func Builtins() []string { return append(slices.Clone(builtins), customBuiltins...) }

// inputSchema makes a misspelt reference a compile error instead of a condition
// that is never met.
var inputSchema = map[string]any{
	"type": "object", "additionalProperties": false,
	"properties": map[string]any{
		"agent": map[string]any{
			"type": "object", "additionalProperties": false,
			"properties": map[string]any{
				"name": map[string]any{"type": "string"}, "instance": map[string]any{"type": "string"},
			},
		},
		"action":   map[string]any{"type": "string"},
		"resource": map[string]any{"type": "string"},
		"session":  map[string]any{"type": "string"},
		"args":     map[string]any{"type": "object", "additionalProperties": true},
		"state": map[string]any{
			"type": "object", "additionalProperties": false,
			"properties": map[string]any{
				"counts": numbers, "session_counts": numbers, "rates": numbers, "budgets": numbers, "charges": numbers,
				"labels": texts, "endorsed": texts, "approvals": texts, "narrowed": texts,
				"now": map[string]any{"type": "number"},
			},
		},
	},
}

var (
	numbers = map[string]any{"type": "object", "additionalProperties": map[string]any{"type": "number"}}
	texts   = map[string]any{"type": "array", "items": map[string]any{"type": "string"}}
)

// capabilities are this OPA version's, with the builtins cut to the list.
func capabilities() (*ast.Capabilities, error) { return limited(builtins) }

// wider are those for a document's own modules: what OPA implements inside of
// the Wasm and what is the same at every time.
func wider() (*ast.Capabilities, error) {
	return limited(Builtins())
}

func limited(list []string) (*ast.Capabilities, error) {
	c := ast.CapabilitiesForThisVersion()
	all := map[string]*ast.Builtin{}
	for _, b := range c.Builtins {
		all[b.Name] = b
	}
	c.Builtins = nil
	for _, name := range list {
		b := all[name]
		if b == nil || b.IsNondeterministic() {
			return nil, fmt.Errorf("builtin %s is absent or not deterministic", name)
		}
		c.Builtins = append(c.Builtins, b)
	}
	return c, nil
}

// toWasm checks Rego strictly and compiles it, with the modules that a document
// brings.
func toWasm(rego []byte, more []policy.Module) ([]byte, error) {
	caps, err := capabilities()
	if err != nil {
		return nil, err
	}
	module, err := ast.ParseModuleWithOpts(generated, string(rego), ast.ParserOptions{
		Capabilities: caps, RegoVersion: ast.RegoV1,
	})
	if err != nil {
		return nil, err
	}
	modules := map[string]*ast.Module{generated: module}
	files := []bundle.ModuleFile{{URL: generated, Path: generated, Raw: rego, Parsed: module.Copy()}}
	for _, m := range more {
		parsed, err := custom(m)
		if err != nil {
			return nil, err
		}
		modules[m.Name+".rego"] = parsed
		files = append(files, bundle.ModuleFile{URL: m.Name + ".rego", Path: m.Name + ".rego", Raw: []byte(m.Text), Parsed: parsed.Copy()})
	}
	entries := []string{policy.Entrypoint}
	if len(more) == 0 {
		entries = append(entries, policy.Bounded)
	} else if caps, err = wider(); err != nil {
		return nil, err
	}
	if err := check(modules, caps); err != nil {
		return nil, err
	}
	b := &bundle.Bundle{Manifest: bundle.Manifest{Roots: &[]string{"omega"}}, Modules: files, Data: map[string]any{}}
	b.SetRegoVersion(ast.RegoV1)
	c := opa.New().WithCapabilities(caps).WithTarget(opa.TargetWasm).
		WithEntrypoints(entries...).WithBundle(b).WithRegoVersion(ast.RegoV1).WithPruneUnused(true)
	if err := c.Build(context.Background()); err != nil {
		return nil, err
	}
	out := c.Bundle().WasmModules
	if len(out) != 1 {
		return nil, errors.New("opa gave no single wasm module")
	}
	return out[0].Raw, nil
}

// generated is the name of the module that a document becomes.
const generated = "policy.rego"

// check compiles strictly, with types from the schema of the input.
func check(modules map[string]*ast.Module, caps *ast.Capabilities) error {
	schemas := ast.NewSchemaSet()
	schemas.Put(ast.SchemaRootRef, inputSchema)
	c := ast.NewCompiler().WithCapabilities(caps).WithStrict(true).WithSchemas(schemas)
	copies := map[string]*ast.Module{}
	for name, m := range modules {
		copies[name] = m.Copy()
	}
	c.Compile(copies)
	if c.Failed() {
		return placed(generated, c.Errors)
	}
	return nil
}
