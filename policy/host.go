package policy

import (
	"context"
	"errors"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// hostName is the module of our functions; "env" re-exports them to the policy.
const hostName = "omega"

// hostFuncs are OPA's imports and how many i32 they take (OPA docs/wasm,
// "Imports"). None does anything but stop the policy: whatever is not built
// into the module is not part of the policy language.
var hostFuncs = []struct {
	name    string
	params  int
	results int
}{
	{"opa_abort", 1, 0},
	{"opa_println", 1, 0},
	{"opa_builtin0", 2, 1},
	{"opa_builtin1", 3, 1},
	{"opa_builtin2", 4, 1},
	{"opa_builtin3", 5, 1},
	{"opa_builtin4", 6, 1},
}

func hostModules(ctx context.Context, r wazero.Runtime) error {
	b := r.NewHostModuleBuilder(hostName)
	for _, f := range hostFuncs {
		b.NewFunctionBuilder().
			WithGoModuleFunction(trap(f.name), i32s(f.params), i32s(f.results)).
			Export(f.name)
	}
	_, err := b.Instantiate(ctx)
	return err
}

// trap ends the evaluation; wazero turns the panic into an error of the call.
func trap(name string) api.GoModuleFunc {
	return func(context.Context, api.Module, []uint64) {
		panic(errors.New("policy called " + name))
	}
}

func i32s(n int) []api.ValueType {
	out := make([]api.ValueType, n)
	for i := range out {
		out[i] = api.ValueTypeI32
	}
	return out
}

// envModule is a Wasm module that defines the memory and passes our functions
// on: the policy imports both from "env", and a host module has no memory.
// The bytes follow the WebAssembly core specification 2.0, section 5.5.
func envModule() []byte {
	var types, imports, exports [][]byte
	exports = append(exports, append(name("memory"), 0x02, 0))
	for n, f := range hostFuncs {
		t := append([]byte{0x60}, uleb(uint32(f.params))...)
		t = append(t, repeat(0x7f, f.params)...)
		t = append(t, byte(f.results))
		types = append(types, append(t, repeat(0x7f, f.results)...))
		imports = append(imports, append(append(name(hostName), name(f.name)...), 0x00, byte(n)))
		exports = append(exports, append(name(f.name), 0x00, byte(n)))
	}
	memory := append([]byte{0x01}, append(uleb(memoryPages), uleb(memoryLimit)...)...)
	out := []byte("\x00asm\x01\x00\x00\x00")
	out = append(out, section(1, types)...)
	out = append(out, section(2, imports)...)
	out = append(out, section(5, [][]byte{memory})...)
	return append(out, section(7, exports)...)
}

// section writes a section that holds a vector.
func section(id byte, items [][]byte) []byte {
	body := uleb(uint32(len(items)))
	for _, i := range items {
		body = append(body, i...)
	}
	return append(append([]byte{id}, uleb(uint32(len(body)))...), body...)
}

func name(s string) []byte { return append(uleb(uint32(len(s))), s...) }

func repeat(b byte, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = b
	}
	return out
}
