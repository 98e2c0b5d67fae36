package policy

import (
	"context"

	"github.com/tetratelabs/wazero"
)

// Raw runs a policy without the care around it, for comparisons with OPA.
type Raw struct{ i *instance }

// NewRaw loads a module with a data document.
func NewRaw(ctx context.Context, wasm, data []byte) (*Raw, error) {
	d := &Decider{wasm: wasm, cache: wazero.NewCompilationCache(), guarded: true}
	i, err := d.instantiate(ctx)
	if err != nil {
		return nil, err
	}
	at, err := i.export(ctx, "opa_malloc", uint64(len(data)))
	if err != nil {
		return nil, err
	}
	i.memory.Write(uint32(at), data)
	value, err := i.call(ctx, i.parse, at, uint64(len(data)))
	if err != nil {
		return nil, err
	}
	if _, err := i.export(ctx, "opa_eval_ctx_set_data", i.context, value); err != nil {
		return nil, err
	}
	i.heap, err = i.call(ctx, i.heapGet)
	return &Raw{i}, err
}

// Eval gives OPA's result set as Rego text, in which sets are no arrays.
func (r *Raw) Eval(ctx context.Context, input []byte) (string, error) {
	json := r.i.dump
	r.i.dump = r.i.mod.ExportedFunction("opa_value_dump")
	defer func() { r.i.dump = json }()
	out, err := r.i.decide(ctx, input)
	return string(out), err
}

// Close frees it.
func (r *Raw) Close() { r.i.close() }

// Reset forgets what a fault may have left, as far as the next call could see it.
func (r *Raw) Reset(ctx context.Context) error {
	_, err := r.i.call(ctx, r.i.heapSet, r.i.heap)
	return err
}
