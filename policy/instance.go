package policy

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

const (
	// The host sizes the memory so that no input needs it to grow.
	memoryPages = 64  // 4 MiB
	memoryLimit = 512 // 32 MiB
	// keptHeap is how much decisions may leave in the memory before it is set
	// back: some hundreds of them.
	keptHeap = 4 << 20
	// maxKnown bounds the permits whose reading an instance remembers.
	maxKnown = 1024
)

// instance is one running policy with its memory.
type instance struct {
	runtime                                               wazero.Runtime
	mod                                                   api.Module
	memory                                                api.Memory
	parse, setInput, eval, result, dump, heapGet, heapSet api.Function
	input                                                 uint32 // address of a buffer for inputs
	context                                               uint64 // address of the evaluation's context
	heap                                                  uint64 // everything from here on is forgotten, when it is much
	bounded                                               bool   // whether it ends by itself
	stack                                                 [2]uint64
	scan                                                  scanner
	known                                                 map[string]Decision // by the text of the result
}

// instantiate makes a fresh policy in a runtime of its own: names are unique
// within one, and the code is compiled once for all.
func (d *Decider) instantiate(ctx context.Context) (*instance, error) {
	cfg := wazero.NewRuntimeConfigCompiler().WithCompilationCache(d.cache).
		WithCloseOnContextDone(false).WithMemoryLimitPages(memoryLimit)
	i := &instance{runtime: wazero.NewRuntimeWithConfig(ctx, cfg), known: map[string]Decision{}}
	if err := i.load(ctx, d.wasm); err != nil {
		i.close()
		return nil, err
	}
	return i, nil
}

func (i *instance) load(ctx context.Context, wasm []byte) error {
	if err := hostModules(ctx, i.runtime); err != nil {
		return fmt.Errorf("host functions: %w", err)
	}
	code, err := i.runtime.CompileModule(ctx, wasm)
	if err != nil {
		return err
	}
	env, err := i.runtime.InstantiateWithConfig(ctx, envModule(), wazero.NewModuleConfig().WithName("env"))
	if err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	i.memory = env.Memory()
	if i.mod, err = i.runtime.InstantiateModule(ctx, code, wazero.NewModuleConfig().WithName("policy")); err != nil {
		return fmt.Errorf("instance: %w", err)
	}
	return i.prepare(ctx)
}

func (i *instance) close() {
	_ = i.runtime.Close(context.Background()) // the caller's may be over, and this waits for nothing
}

// decide returns the result's text, which is good until the next call. These
// are the steps of OPA's opa_eval (OPA docs/wasm, "ABI") without its first: that
// forgets all of the heap each time, and with it the compiled patterns.
func (i *instance) decide(ctx context.Context, input []byte) ([]byte, error) {
	used, err := i.call(ctx, i.heapGet)
	if err != nil {
		return nil, err
	}
	if used > i.heap+keptHeap || len(input) > keptHeap/256 {
		if _, err := i.call(ctx, i.heapSet, i.heap); err != nil {
			return nil, err
		}
	}
	if !i.memory.Write(i.input, input) {
		return nil, errors.New("input does not fit the memory")
	}
	value, err := i.call(ctx, i.parse, uint64(i.input), uint64(len(input)))
	if err != nil || value == 0 {
		return nil, errors.Join(err, errNoValue)
	}
	if _, err := i.call(ctx, i.setInput, i.context, value); err != nil {
		return nil, err
	}
	if _, err := i.call(ctx, i.eval, i.context); err != nil {
		return nil, err
	}
	out, err := i.call(ctx, i.result, i.context)
	if err != nil {
		return nil, err
	}
	at, err := i.call(ctx, i.dump, out)
	if err != nil {
		return nil, err
	}
	return i.text(uint32(at))
}

// call calls a function of at most two arguments without allocating.
func (i *instance) call(ctx context.Context, f api.Function, args ...uint64) (uint64, error) {
	i.stack = [2]uint64{}
	copy(i.stack[:], args)
	err := f.CallWithStack(ctx, i.stack[:])
	return i.stack[0], err
}

// text reads the NUL-terminated text at an address.
func (i *instance) text(at uint32) ([]byte, error) {
	rest := i.memory.Size() - min(at, i.memory.Size())
	view, ok := i.memory.Read(at, min(rest, maxResult))
	if !ok {
		return nil, errors.New("result lies outside of the memory")
	}
	if n := bytes.IndexByte(view, 0); n >= 0 {
		return view[:n], nil
	}
	return nil, errors.New("result is too long")
}

var errNoValue = errors.New("no value")

// prepare checks that the module is one of ours and finds where inputs go.
func (i *instance) prepare(ctx context.Context) error {
	major, minor := i.mod.ExportedGlobal("opa_wasm_abi_version"), i.mod.ExportedGlobal("opa_wasm_abi_minor_version")
	if major == nil || minor == nil || major.Get() != 1 || minor.Get() < 2 {
		return errors.New("not OPA's ABI 1.2 or later")
	}
	for _, f := range []struct {
		at     *api.Function
		name   string
		params int
	}{
		{&i.parse, "opa_json_parse", 2}, {&i.setInput, "opa_eval_ctx_set_input", 2}, {&i.eval, "eval", 1},
		{&i.result, "opa_eval_ctx_get_result", 1}, {&i.dump, "opa_json_dump", 1},
		{&i.heapGet, "opa_heap_ptr_get", 0}, {&i.heapSet, "opa_heap_ptr_set", 1},
	} {
		if *f.at = i.mod.ExportedFunction(f.name); *f.at == nil || len((*f.at).Definition().ParamTypes()) != f.params {
			return fmt.Errorf("module has no %s", f.name)
		}
	}
	if err := i.onlyOurs(ctx); err != nil {
		return err
	}
	return i.place(ctx)
}

// place makes room for inputs, and a context with an empty data document.
func (i *instance) place(ctx context.Context) error {
	at, err := i.export(ctx, "opa_malloc", MaxInput)
	if err != nil {
		return err
	}
	i.input = uint32(at)
	if !i.memory.Write(i.input, []byte("{}")) {
		return errors.New("data does not fit the memory")
	}
	data, err := i.call(ctx, i.parse, at, 2)
	if err != nil || data == 0 {
		return fmt.Errorf("data document: %w", errors.Join(err, errNoValue))
	}
	if i.context, err = i.export(ctx, "opa_eval_ctx_new"); err != nil {
		return err
	}
	if _, err := i.export(ctx, "opa_eval_ctx_set_data", i.context, data); err != nil {
		return err
	}
	i.heap, err = i.call(ctx, i.heapGet)
	return err
}

// export calls an export that only the start needs.
func (i *instance) export(ctx context.Context, name string, args ...uint64) (uint64, error) {
	f := i.mod.ExportedFunction(name)
	if f == nil || len(f.Definition().ParamTypes()) != len(args) {
		return 0, fmt.Errorf("module has no %s", name)
	}
	return i.call(ctx, f, args...)
}

// onlyOurs refuses a module whose first entrypoint is not ours, or that wants
// built-in functions from its host.
func (i *instance) onlyOurs(ctx context.Context) error {
	entries, err := i.list(ctx, "entrypoints")
	if err != nil {
		return err
	}
	i.bounded = entries == `{"`+Bounded+`":1,"`+Entrypoint+`":0}`
	if !i.bounded && entries != `{"`+Entrypoint+`":0}` {
		return fmt.Errorf("entrypoints are %.200s", entries)
	}
	foreign, err := i.list(ctx, "builtins")
	if err != nil {
		return err
	}
	if foreign != "{}" {
		return fmt.Errorf("functions are %.200s, want none from the host", foreign)
	}
	return nil
}

// list calls an export that gives a value and returns its JSON.
func (i *instance) list(ctx context.Context, name string) (string, error) {
	value, err := i.export(ctx, name)
	if err != nil {
		return "", err
	}
	at, err := i.call(ctx, i.dump, value)
	if err != nil {
		return "", err
	}
	text, err := i.text(uint32(at))
	return string(text), err
}

// uleb is little-endian base 128, the form of all numbers in a Wasm module.
func uleb(n uint32) []byte { return binary.AppendUvarint(nil, uint64(n)) }
