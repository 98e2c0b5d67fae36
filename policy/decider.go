package policy

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"omega/internal/strictjson"
)

const (
	// Entrypoint is the rule that a compiled policy answers with.
	Entrypoint = "omega/decision"
	// decideTime is far above a decision (tens of microseconds) and far below
	// what an agent notices.
	decideTime = 2 * time.Second
	// The host sizes the memory so that no input needs it to grow.
	memoryPages = 64  // 4 MiB
	memoryLimit = 512 // 32 MiB
	maxModule   = 16 << 20
	maxResult   = 1 << 20
	maxReasons  = 16
	// An entry of the log refuses longer texts (provenance, 1 KiB), and a denial
	// that cannot be entered would be none.
	maxReason = 900
)

// Decider runs one compiled policy. It is safe for concurrent use.
type Decider struct {
	runtime wazero.Runtime
	code    wazero.CompiledModule

	mu sync.Mutex
	vm *instance // nil after a fault; made anew for the next call
}

// NewDecider compiles the policy's Wasm and tries it once.
func NewDecider(ctx context.Context, wasm []byte) (*Decider, error) {
	if len(wasm) > maxModule {
		return nil, fmt.Errorf("policy wasm: %d bytes, limit %d", len(wasm), maxModule)
	}
	cfg := wazero.NewRuntimeConfigCompiler().
		WithCloseOnContextDone(true).
		WithMemoryLimitPages(memoryLimit)
	d := &Decider{runtime: wazero.NewRuntimeWithConfig(ctx, cfg)}
	if err := d.load(ctx, wasm); err != nil {
		return nil, errors.Join(fmt.Errorf("policy wasm: %w", err), d.runtime.Close(ctx))
	}
	return d, nil
}

func (d *Decider) load(ctx context.Context, wasm []byte) error {
	if err := hostModules(ctx, d.runtime); err != nil {
		return fmt.Errorf("host functions: %w", err)
	}
	code, err := d.runtime.CompileModule(ctx, wasm)
	if err != nil {
		return err
	}
	d.code = code
	d.vm, err = d.instantiate(ctx)
	return err
}

// Close frees the policy. Later decisions are denials.
func (d *Decider) Close(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.vm = nil
	return d.runtime.Close(ctx)
}

// Decide answers one input. Whatever goes wrong is a denial with a reason.
func (d *Decider) Decide(ctx context.Context, input []byte) (out Decision) {
	in, err := ParseInput(input)
	if err != nil {
		return Deny(err.Error())
	}
	text, err := in.Encode()
	if err != nil || len(text) > MaxInput {
		return Deny("decision input: no canonical form within the limit")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, decideTime)
	defer cancel()
	result, err := d.evaluate(ctx, text)
	if err != nil {
		why, _, _ := strings.Cut(err.Error(), "\n") // a stack trace follows
		return Deny("policy evaluation: " + why)
	}
	return decode(result)
}

// decode reads OPA's result set: [] is undefined, [{"result": X}] is X.
func decode(result []byte) Decision {
	var set []struct {
		Result json.RawMessage `json:"result"`
	}
	if err := strictjson.Decode(result, &set, strictjson.Limits{MaxBytes: maxResult}); err != nil {
		return Deny("policy evaluation: unreadable result")
	}
	if len(set) != 1 {
		return Deny("the policy does not decide this call")
	}
	var out Decision
	if err := json.Unmarshal(set[0].Result, &out); err != nil {
		return Deny("policy evaluation: unreadable result")
	}
	// A call can be wrong in many ways at once; an agent needs the first few,
	// and an entry of the log holds no more.
	out.Reasons = out.Reasons[:min(len(out.Reasons), maxReasons)]
	for i, r := range out.Reasons {
		if len(r) > maxReason {
			out.Reasons[i] = strings.ToValidUTF8(r[:maxReason], "") + "…"
		}
	}
	return out
}

// evaluate runs the policy in the kept instance, and drops that instance on
// any fault: a trap can leave its memory in any state.
func (d *Decider) evaluate(ctx context.Context, input []byte) (result []byte, err error) {
	if d.vm == nil {
		if d.vm, err = d.instantiate(ctx); err != nil {
			return nil, err
		}
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("fault: %v", p)
		}
		if err != nil {
			d.drop()
		}
	}()
	return d.vm.eval(ctx, input)
}

func (d *Decider) drop() {
	vm := d.vm
	d.vm = nil
	if vm != nil {
		vm.close()
	}
}

// instance is one running policy with its memory.
type instance struct {
	env, mod api.Module
	run      api.Function
	memory   api.Memory
	heap     uint32 // where the input goes; everything above is forgotten
	data     uint64 // address of the policy's (empty) data document
}

func (i *instance) close() {
	ctx := context.Background() // the caller's may be over, and this waits for nothing
	_ = i.mod.Close(ctx)
	_ = i.env.Close(ctx)
}

func (i *instance) eval(ctx context.Context, input []byte) ([]byte, error) {
	if !i.memory.Write(i.heap, input) {
		return nil, errors.New("input does not fit the memory")
	}
	n := uint64(len(input))
	// opa_eval(reserved, entrypoint, data, input, length, heap, format):
	// OPA docs/wasm "ABI", 1.2. Entrypoint 0 is ours, format 0 is JSON. It
	// sets the heap back itself.
	out, err := i.run.Call(ctx, 0, 0, i.data, uint64(i.heap), n, uint64(i.heap)+n, 0)
	if err != nil {
		return nil, err
	}
	return i.text(uint32(out[0]))
}

// text reads the NUL-terminated text at an address.
func (i *instance) text(at uint32) ([]byte, error) {
	rest := i.memory.Size() - min(at, i.memory.Size())
	view, ok := i.memory.Read(at, min(rest, maxResult))
	if !ok {
		return nil, errors.New("result lies outside of the memory")
	}
	for n, c := range view {
		if c == 0 {
			return append([]byte(nil), view[:n]...), nil
		}
	}
	return nil, errors.New("result is too long")
}

// putJSON parses text inside of the policy's memory and returns its address.
func (i *instance) putJSON(ctx context.Context, text []byte) (uint64, error) {
	at, err := call(ctx, i.mod, "opa_malloc", uint64(len(text)))
	if err != nil {
		return 0, err
	}
	if !i.memory.Write(uint32(at), text) {
		return 0, errors.New("data does not fit the memory")
	}
	value, err := call(ctx, i.mod, "opa_json_parse", at, uint64(len(text)))
	if err != nil || value == 0 {
		return 0, fmt.Errorf("data document: %w", errors.Join(err, errNoValue))
	}
	return value, nil
}

var errNoValue = errors.New("no value")

func call(ctx context.Context, m api.Module, name string, args ...uint64) (uint64, error) {
	f := m.ExportedFunction(name)
	if f == nil {
		return 0, fmt.Errorf("module has no %s", name)
	}
	out, err := f.Call(ctx, args...)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	if len(out) != 1 {
		return 0, nil
	}
	return out[0], nil
}

// pages as little-endian base 128, the form of all numbers in a Wasm module.
func uleb(n uint32) []byte { return binary.AppendUvarint(nil, uint64(n)) }
