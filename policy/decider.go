package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"

	"omega/internal/strictjson"
)

const (
	// Entrypoint is the rule that a compiled policy answers with.
	Entrypoint = "omega/decision"
	// Bounded is the second entrypoint of a policy that the document alone made.
	// Such a policy ends by itself: it has no recursion, and its loops run over
	// an input whose size the scanner bounds. Every other policy is interrupted
	// when its time is over, which costs each decision about as much again.
	Bounded = "omega/bounded"
	// decideTime is far above a decision (tens of microseconds) and far below
	// what an agent notices.
	decideTime = 2 * time.Second
	maxModule  = 16 << 20
	maxResult  = 1 << 20
	maxReasons = 16
	// An entry of the log refuses longer texts (provenance, 1 KiB), and a denial
	// that cannot be entered would be none.
	maxReason = 900
	// maxInstances bounds the decisions at one time; each instance has a memory
	// of its own.
	maxInstances = 8
)

// Decider runs one compiled policy. It is safe for concurrent use: a decision
// that takes long delays no other, as long as fewer than maxInstances do.
type Decider struct {
	wasm    []byte
	cache   wazero.CompilationCache
	guarded bool // whether evaluations are interrupted
	idle    chan *instance
	slots   chan struct{} // one for each instance that may still be made
	closed  atomic.Bool
}

// NewDecider compiles the policy's Wasm and tries it once.
func NewDecider(ctx context.Context, wasm []byte) (*Decider, error) {
	if len(wasm) > maxModule {
		return nil, fmt.Errorf("policy wasm: %d bytes, limit %d", len(wasm), maxModule)
	}
	n := min(max(runtime.GOMAXPROCS(0), 2), maxInstances)
	d := &Decider{
		wasm: wasm, cache: wazero.NewCompilationCache(),
		idle: make(chan *instance, n), slots: make(chan struct{}, n),
	}
	for range n - 1 {
		d.slots <- struct{}{}
	}
	i, err := d.instantiate(ctx)
	if err == nil && !i.bounded {
		i.close()
		d.guarded = true
		i, err = d.instantiate(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("policy wasm: %w", err), d.cache.Close(ctx))
	}
	d.idle <- i
	return d, nil
}

// Close frees the policy. Later decisions are denials; those in progress end first.
func (d *Decider) Close(ctx context.Context) error {
	d.closed.Store(true)
	for {
		select {
		case i := <-d.idle:
			i.close()
		default:
			return d.cache.Close(ctx)
		}
	}
}

// Decide answers one input. Whatever goes wrong is a denial with a reason. The
// decision's slices are shared: they must not be changed.
func (d *Decider) Decide(ctx context.Context, input []byte) Decision {
	i, err := d.acquire(ctx)
	if err != nil {
		return Deny("policy evaluation: " + err.Error())
	}
	out, err := d.decide(ctx, i, input)
	if err != nil {
		// A trap can leave the memory in any state.
		i.close()
		d.slots <- struct{}{}
		why, _, _ := strings.Cut(err.Error(), "\n") // a stack trace follows
		return Deny("policy evaluation: " + why)
	}
	d.release(i)
	return out
}

var errClosed = errors.New("policy is closed")

// acquire takes an instance that nobody uses, or makes one.
func (d *Decider) acquire(ctx context.Context) (*instance, error) {
	if d.closed.Load() {
		return nil, errClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case i := <-d.idle:
		return i, nil
	default:
	}
	timer := time.NewTimer(decideTime)
	defer timer.Stop()
	select {
	case i := <-d.idle:
		return i, nil
	case <-d.slots:
		i, err := d.instantiate(ctx)
		if err != nil {
			d.slots <- struct{}{}
		}
		return i, err
	case <-timer.C:
		return nil, errors.New("every instance is busy")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (d *Decider) release(i *instance) {
	if d.closed.Load() {
		i.close()
		return
	}
	d.idle <- i
}

// decide returns an error only for a fault of the evaluation.
func (d *Decider) decide(ctx context.Context, i *instance, input []byte) (out Decision, err error) {
	if err := i.scan.check(input); err != nil {
		return Deny(err.Error()), nil
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("fault: %v", p)
		}
	}()
	if d.guarded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, decideTime)
		defer cancel()
	}
	result, err := i.decide(ctx, input)
	if err == nil {
		err = ctx.Err() // a late permit does not count
	}
	if err != nil {
		return Decision{}, err
	}
	if known, ok := i.known[string(result)]; ok {
		return known, nil
	}
	out = decode(result)
	if out.Permit && len(i.known) < maxKnown {
		i.known[string(result)] = out
	}
	return out, nil
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
