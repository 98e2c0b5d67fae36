// Package writer appends to the provenance log. It runs in the guest's log
// child: it numbers, seals and hashes entries, has checkpoints signed by
// another process, keeps the tiles in memory and, where there is one, on a raw
// disk. It holds no signing key, and it makes no decision but to refuse.
package writer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"omega/policy/provenance"
)

// Errors that Append returns beside those of the entry itself.
var (
	// ErrFailed reports a writer that lost its signer or its disk: it will never
	// append again, because nobody can say what the last checkpoint covered.
	ErrFailed = errors.New("provenance log has failed")
	// ErrClosed reports a writer that was closed.
	ErrClosed = errors.New("provenance log is closed")
	// ErrFull reports a log that has reached its bound, or its bound for one agent.
	ErrFull = errors.New("provenance log is full")
	// ErrNoIntent reports an outcome whose intent is not open: unknown, denied,
	// another agent's, or answered before.
	ErrNoIntent = errors.New("outcome names no open intent")
)

// Bounds that a zero field of Config stands for.
const (
	defaultQueue        = 1024
	defaultBatch        = 256
	defaultMaxBytes     = 256 << 20
	defaultEpochEntries = 1 << 16
	defaultSignTimeout  = 10 * time.Second
)

// Config is what a writer needs. Zero bounds mean the defaults.
type Config struct {
	Origin   string   // "omega/<boot id in hex>"
	LogKey   [32]byte // Ed25519; every note that Sign returns is checked with it
	Auditors []provenance.Auditor
	// Sign asks the signer for a signed note over a checkpoint's text.
	Sign func(ctx context.Context, text []byte) (signed []byte, err error)
	Disk Disk // nil: the log is in memory only
	// DiskSize is what the disk holds in bytes; zero means that it grows. A log
	// that would not fit is full before the disk is: a failed write ends it.
	DiskSize int64
	Log      *slog.Logger

	Queue        int // entries that wait; further Appends block
	Batch        int // entries below one checkpoint signature
	MaxBytes     int // of all leaves, and of the memory that holds them
	EpochEntries uint64
	SignTimeout  time.Duration
}

// A Writer appends entries to one log. It is safe for concurrent use.
type Writer struct {
	cfg   Config
	key   *provenance.LogKey
	queue chan *request
	stop  context.CancelFunc
	done  chan struct{}

	// Only the loop touches these.
	tree  provenance.Tree
	epoch *provenance.Epoch
	next  uint64 // number of the next epoch
	born  uint64 // size of the tree when the epoch began
	bytes int
	spent map[string]int    // bytes of what each agent caused
	open  map[uint64]string // intents without an outcome, and their agents
	disk  *diskLog
	pace  pace

	mu         sync.RWMutex // guards what follows, which readers see
	published  snapshot
	checkpoint []byte
	failure    error
}

// request is one Append that waits for its checkpoint.
type request struct {
	ctx    context.Context
	entry  provenance.Entry
	json   []byte
	index  uint64
	urgent bool       // its caller does nothing until it is in the log
	done   chan error // of capacity one: the loop never blocks on it
}

// New starts a writer. Close stops it.
func New(cfg Config) (*Writer, error) {
	if cfg.Sign == nil || cfg.LogKey == [32]byte{} {
		return nil, errors.New("provenance writer: a signer and its public key are needed")
	}
	if _, err := provenance.ParseCheckpoint(provenance.Checkpoint{Origin: cfg.Origin}.Text()); err != nil {
		return nil, fmt.Errorf("provenance writer: %w", err)
	}
	key, err := provenance.NewLogKey(cfg.Origin, cfg.LogKey[:])
	if err != nil {
		return nil, fmt.Errorf("provenance writer: %w", err)
	}
	cfg.setDefaults()
	ctx, stop := context.WithCancel(context.Background())
	w := &Writer{
		cfg: cfg, key: key, stop: stop, queue: make(chan *request, cfg.Queue),
		done: make(chan struct{}), open: map[uint64]string{}, spent: map[string]int{},
	}
	if cfg.Disk != nil {
		d, err := openDisk(cfg.Disk, cfg.Origin)
		if err != nil {
			stop()
			return nil, fmt.Errorf("log disk: %w", err)
		}
		w.disk = d
		if cfg.DiskSize > 0 {
			// At worst every entry brings a checkpoint, which is smaller, and both
			// are records: less than three times the leaves.
			w.cfg.MaxBytes = int(min(int64(w.cfg.MaxBytes), (cfg.DiskSize-d.end)/3))
		}
	}
	go w.loop(ctx)
	return w, nil
}

func (c *Config) setDefaults() {
	set := func(field *int, value int) {
		if *field <= 0 {
			*field = value
		}
	}
	set(&c.Queue, defaultQueue)
	set(&c.Batch, defaultBatch)
	set(&c.MaxBytes, defaultMaxBytes)
	if c.EpochEntries == 0 {
		c.EpochEntries = defaultEpochEntries
	}
	if c.SignTimeout <= 0 {
		c.SignTimeout = defaultSignTimeout
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// Append returns an entry's index once a signed checkpoint covers it. If ctx
// ends first the entry may still come to be in the log: the caller must then
// act as if it were there and nothing had followed.
func (w *Writer) Append(ctx context.Context, e provenance.Entry) (uint64, error) {
	r := &request{ctx: ctx, entry: e, urgent: true, done: make(chan error, 1)}
	if err := w.submit(r); err != nil {
		return 0, err
	}
	return w.await(r)
}

// Submit takes an entry behind all that were submitted before, for a caller
// that has other things to do: it shares a checkpoint with entries that come
// soon after it. What Submit returns waits until that one is there, as Append does.
func (w *Writer) Submit(ctx context.Context, e provenance.Entry) (wait func() (uint64, error), err error) {
	r := &request{ctx: ctx, entry: e, done: make(chan error, 1)}
	if err := w.submit(r); err != nil {
		return nil, err
	}
	return func() (uint64, error) { return w.await(r) }, nil
}

func (w *Writer) submit(r *request) (err error) {
	if r.json, err = r.entry.Encode(); err != nil {
		return err
	}
	select {
	case w.queue <- r:
		return nil
	case <-r.ctx.Done():
		return r.ctx.Err()
	case <-w.done:
		return w.failed()
	}
}

func (w *Writer) await(r *request) (uint64, error) {
	select {
	case err := <-r.done:
		return r.index, err
	case <-r.ctx.Done():
		return 0, r.ctx.Err()
	case <-w.done:
		// The loop may have answered before it ended.
		select {
		case err := <-r.done:
			return r.index, err
		default:
			return 0, w.failed()
		}
	}
}

// Checkpoint is the newest signed checkpoint, nil before the first entry.
func (w *Writer) Checkpoint() []byte {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return append([]byte(nil), w.checkpoint...)
}

// Close stops the writer. Entries that still wait are refused.
func (w *Writer) Close() error {
	w.stop()
	<-w.done
	return nil
}

// failed is why the writer takes nothing more, nil while it does.
func (w *Writer) failed() error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.failure
}
