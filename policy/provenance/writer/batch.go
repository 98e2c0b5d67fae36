package writer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"omega/policy/provenance"
)

// loop commits whatever waits, as one batch, again and again. While one batch
// is being signed the next one gathers.
func (w *Writer) loop(ctx context.Context) {
	defer close(w.done)
	err := ErrClosed
	for {
		batch := w.gather(ctx)
		if batch == nil {
			break
		}
		if err = w.commit(ctx, batch); err != nil {
			w.cfg.Log.Error("provenance log failed", "err", err)
			break
		}
		err = ErrClosed
	}
	w.mu.Lock()
	w.failure = err
	w.mu.Unlock()
	w.stop()
}

// gather waits for a request whose caller waits, or for one that has waited
// long enough, and takes those that come meanwhile, up to a batch. It returns nil
// when ctx has ended.
func (w *Writer) gather(ctx context.Context) []*request {
	batch, urgent := w.take(ctx, nil, nil)
	if len(batch) > 0 && !urgent {
		batch, urgent = w.take(ctx, batch, time.After(lazyTime))
	}
	if more := w.pace.wait(time.Now()); urgent && more > 0 && ctx.Err() == nil {
		end := time.After(more)
		for again := true; again; {
			batch, again = w.take(ctx, batch, end)
		}
		w.pace.waited(waiting(batch))
	}
	for len(batch) < w.cfg.Batch && ctx.Err() == nil {
		select {
		case r := <-w.queue:
			batch = append(batch, r)
		default:
			return batch
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return batch
}

// take adds requests to a batch: the first one at least, then all until one is
// urgent, end comes or the batch is full.
func (w *Writer) take(ctx context.Context, batch []*request, end <-chan time.Time) (_ []*request, urgent bool) {
	for len(batch) < w.cfg.Batch {
		select {
		case <-ctx.Done():
			return batch, false
		case <-end:
			return batch, false
		case r := <-w.queue:
			if batch = append(batch, r); r.urgent || end == nil {
				return batch, r.urgent
			}
		}
	}
	return batch, false
}

// waiting is how many callers wait for a batch.
func waiting(batch []*request) int {
	n := 0
	for _, r := range batch {
		if r.urgent {
			n++
		}
	}
	return n
}

// staged is what one batch adds to the log.
type staged struct {
	leaves   [][]byte
	requests []*request
}

// commit adds a batch to the log. An error is the end of the writer: leaves may
// be on the disk, or signed for, that no reader was shown.
func (w *Writer) commit(ctx context.Context, batch []*request) error {
	var s staged
	for _, r := range batch {
		if err := w.admit(r); err != nil {
			r.done <- err
			continue
		}
		if err := w.stage(&s, r); err != nil {
			return w.abort(batch, fmt.Errorf("%w: %w", ErrFailed, err))
		}
	}
	if len(s.requests) == 0 {
		return nil
	}
	begun := time.Now()
	signed, err := w.sign(ctx, s.leaves)
	w.pace.spend(time.Since(begun))
	if err != nil {
		return w.abort(batch, fmt.Errorf("%w: %w", ErrFailed, err))
	}
	w.publish(s.leaves, signed)
	for _, r := range s.requests {
		r.done <- nil
	}
	return nil
}

// abort answers every request that has no answer yet.
func (w *Writer) abort(batch []*request, err error) error {
	for _, r := range batch {
		select {
		case r.done <- err:
		default:
		}
	}
	return err
}

// admit refuses what must not enter the tree, without harm to the rest.
func (w *Writer) admit(r *request) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	e := r.entry
	if e.Kind != provenance.KindOutcome {
		return w.room(r)
	}
	if agent, ok := w.open[*e.Intent]; !ok || agent != e.Agent {
		return fmt.Errorf("%w: %d", ErrNoIntent, *e.Intent)
	}
	return nil
}

const (
	// leafOverhead bounds what sealing adds to an entry: header, salt, padding, tag.
	leafOverhead = 512
	// outcomeSize is kept free for the outcome of each open intent: what has
	// been done can always be entered.
	outcomeSize = 4<<10 + leafOverhead
)

// room refuses what would fill the log. An agent has at most as much of it as
// is then still free: however many collude, the next one finds room.
func (w *Writer) room(r *request) error {
	size := len(r.json) + leafOverhead
	if w.bytes+size+(len(w.open)+1)*outcomeSize > w.cfg.MaxBytes {
		return fmt.Errorf("%w: %d bytes", ErrFull, w.bytes)
	}
	agent := r.entry.Agent
	if free := w.cfg.MaxBytes - w.bytes - size; calls(r.entry) && w.spent[agent]+size > free {
		return fmt.Errorf("%w: agent %s has filled its share", ErrFull, agent)
	}
	return nil
}

// calls says whether an agent can cause entries of this kind as often as it likes.
func calls(e provenance.Entry) bool {
	return e.Agent != "" && (e.Kind == provenance.KindIntent || e.Kind == provenance.KindOutcome || e.Kind == provenance.KindRefusal)
}

// stage gives a request its index and seals it, below a new epoch if it is time.
func (w *Writer) stage(s *staged, r *request) error {
	if w.epoch == nil || w.tree.Size()-w.born >= w.cfg.EpochEntries {
		epoch, header, err := provenance.NewEpoch(w.cfg.Origin, w.next, w.tree.Size(), w.cfg.Auditors)
		if err != nil {
			return fmt.Errorf("epoch %d: %w", w.next, err)
		}
		w.epoch, w.born = epoch, w.tree.Size()
		w.next++
		w.grow(s, header)
	}
	leaf, err := w.epoch.Seal(w.tree.Size(), r.json)
	if err != nil {
		return err
	}
	r.index = leaf.Seq
	before := w.bytes
	w.grow(s, leaf)
	if calls(r.entry) {
		w.spent[r.entry.Agent] += w.bytes - before
	}
	s.requests = append(s.requests, r)
	switch {
	case r.entry.Kind == provenance.KindIntent && r.entry.Decision == provenance.Permit:
		w.open[r.index] = r.entry.Agent
	case r.entry.Kind == provenance.KindOutcome:
		delete(w.open, *r.entry.Intent)
	}
	return nil
}

func (w *Writer) grow(s *staged, leaf *provenance.Leaf) {
	b := leaf.Marshal()
	s.leaves = append(s.leaves, b)
	w.bytes += len(b)
	w.tree.Append(tlog.RecordHash(b))
}

// sign writes the leaves to the disk, has the new head signed, checks the
// signature and writes it behind them.
func (w *Writer) sign(ctx context.Context, leaves [][]byte) ([]byte, error) {
	if w.disk != nil {
		if err := w.disk.leaves(leaves); err != nil {
			return nil, fmt.Errorf("log disk: %w", err)
		}
	}
	want := provenance.Checkpoint{Origin: w.cfg.Origin, Size: w.tree.Size(), Root: w.tree.Root()}
	ctx, cancel := context.WithTimeout(ctx, w.cfg.SignTimeout)
	defer cancel()
	signed, err := w.cfg.Sign(ctx, want.Text())
	if err != nil {
		return nil, fmt.Errorf("signing a checkpoint: %w", err)
	}
	got, err := w.key.Open(signed)
	if err != nil {
		return nil, err
	}
	if got != want {
		return nil, errors.New("signer signed another checkpoint")
	}
	if w.disk != nil {
		if err := w.disk.checkpoint(signed); err != nil {
			return nil, fmt.Errorf("log disk: %w", err)
		}
	}
	return signed, nil
}
