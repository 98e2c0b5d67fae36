package compile

import (
	"context"
	"errors"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	opa "github.com/open-policy-agent/opa/v1/compile"

	"omega/policy"
)

// builtins are the functions that the generated Rego uses. OPA implements all
// of them inside of the Wasm, so the policy calls nothing outside of itself.
var builtins = []string{
	"and", "array.concat", "assign", "concat", "count", "eq", "equal", "floor", "gt", "gte",
	"internal.member_2", "internal.member_3", "is_array", "is_boolean", "is_number",
	"is_object", "is_string", "lt", "lte", "min", "neq", "object.get", "object.keys",
	"regex.match", "sort", "split", "startswith", "substring", "sum", "trim_left", "trim_prefix", "trim_suffix",
}

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
				"counts": map[string]any{"type": "object", "additionalProperties": map[string]any{"type": "number"}},
				"labels": map[string]any{"type": "array", "items": map[string]any{"type": "string"}},
			},
		},
	},
}

// capabilities are this OPA version's, with the builtins cut to the list.
func capabilities() (*ast.Capabilities, error) {
	c := ast.CapabilitiesForThisVersion()
	all := map[string]*ast.Builtin{}
	for _, b := range c.Builtins {
		all[b.Name] = b
	}
	c.Builtins = nil
	for _, name := range builtins {
		b := all[name]
		if b == nil || b.IsNondeterministic() {
			return nil, fmt.Errorf("builtin %s is absent or not deterministic", name)
		}
		c.Builtins = append(c.Builtins, b)
	}
	return c, nil
}

// toWasm checks Rego strictly and compiles it.
func toWasm(rego []byte) ([]byte, error) {
	caps, err := capabilities()
	if err != nil {
		return nil, err
	}
	module, err := ast.ParseModuleWithOpts("policy.rego", string(rego), ast.ParserOptions{
		Capabilities: caps, RegoVersion: ast.RegoV1,
	})
	if err != nil {
		return nil, err
	}
	if err := check(module, caps); err != nil {
		return nil, err
	}
	b := &bundle.Bundle{
		Manifest: bundle.Manifest{Roots: &[]string{"omega"}},
		Modules:  []bundle.ModuleFile{{URL: "policy.rego", Path: "policy.rego", Raw: rego, Parsed: module.Copy()}},
		Data:     map[string]any{},
	}
	b.SetRegoVersion(ast.RegoV1)
	c := opa.New().WithCapabilities(caps).WithTarget(opa.TargetWasm).
		WithEntrypoints(policy.Entrypoint).WithBundle(b).WithRegoVersion(ast.RegoV1).WithPruneUnused(true)
	if err := c.Build(context.Background()); err != nil {
		return nil, err
	}
	modules := c.Bundle().WasmModules
	if len(modules) != 1 {
		return nil, errors.New("opa gave no single wasm module")
	}
	return modules[0].Raw, nil
}

// check compiles strictly, with types from the schema of the input.
func check(module *ast.Module, caps *ast.Capabilities) error {
	schemas := ast.NewSchemaSet()
	schemas.Put(ast.SchemaRootRef, inputSchema)
	c := ast.NewCompiler().WithCapabilities(caps).WithStrict(true).WithSchemas(schemas)
	c.Compile(map[string]*ast.Module{"policy.rego": module.Copy()})
	if c.Failed() {
		return c.Errors
	}
	return nil
}
