package provenance

import (
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/mod/sumdb/tlog"
)

const hashSize = tlog.HashSize

// Errors of a log that is refused.
var (
	// ErrTampered reports content that the signed checkpoint does not cover:
	// something was changed, removed or put in after it was signed.
	ErrTampered = errors.New("log does not match its checkpoint")
	// ErrFork reports a log that does not continue one that was seen before.
	ErrFork = errors.New("log does not continue what was seen before")
	// ErrFraming reports leaves that are numbered or grouped wrongly, though
	// the log's key signed for them.
	ErrFraming = errors.New("log breaks its own form")
)

// MaxSize bounds the logs that Verify reads whole, and so its memory.
const MaxSize = 1 << 24

// Options say what a log must be.
type Options struct {
	LogKey ed25519.PublicKey
	Origin string // empty: whatever the signed checkpoint names
	// MinSize is a size that was seen before; a smaller log was rolled back.
	MinSize uint64
	// Previous are checkpoints that were seen before and verified: the log must
	// continue every one of them.
	Previous []Checkpoint
	// Auditor's key opens what is sealed for it. Nil: form and hashes only.
	Auditor *ecdh.PrivateKey
	// Each receives every leaf in order, with its entry where it can be read.
	Each func(Item) error
	// Progress receives how many leaves are checked.
	Progress func(done, total uint64)
}

// An Item is one leaf of a verified log.
type Item struct {
	Index  uint64
	Epoch  uint64
	Size   int // of the leaf, in bytes
	Header bool
	Entry  *Entry // nil where it cannot be read
	Salt   [16]byte
	Leaf   []byte
}

// A Summary says what Verify found.
type Summary struct {
	Checkpoint Checkpoint
	Epochs     int
	Recipients int // of the first epoch's key
	Entries    int // leaves that are not headers
	Readable   int // entries that the auditor's key opened
	Anomalies  []Anomaly
}

// Verify reads a whole log from src and proves that it is what the checkpoint's
// signature covers: every tile is recomputed, every leaf is in its place, and
// with an auditor's key every entry that it may read is opened, compared with
// its commitment and judged. An error means that the log is refused.
func Verify(ctx context.Context, src Source, o Options) (*Summary, error) {
	v := &verification{src: src, opts: o}
	steps := []func(context.Context) error{v.head, v.hashes, v.upper, v.entries}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	v.sum.Anomalies = v.rules.end()
	return &v.sum, nil
}

// verification is one run of Verify.
type verification struct {
	src   Source
	opts  Options
	sum   Summary
	tree  Tree
	epoch *Epoch // nil where the auditor cannot read
	first []Recipient
	rules rules
}

// head checks the checkpoint's signature and that nothing was rolled back.
func (v *verification) head(ctx context.Context) error {
	signed, err := v.src.Read(ctx, "checkpoint")
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: there is no checkpoint", ErrTampered)
	}
	if err != nil {
		return err
	}
	c, err := OpenCheckpoint(signed, v.opts.Origin, v.opts.LogKey)
	if err != nil {
		return err
	}
	v.sum.Checkpoint = c
	switch {
	case c.Size > MaxSize:
		return fmt.Errorf("%w: %d entries are more than this reader takes", ErrFraming, c.Size)
	case c.Size < v.opts.MinSize:
		return fmt.Errorf("%w: %d entries, %d were seen", ErrFork, c.Size, v.opts.MinSize)
	}
	for _, prev := range v.opts.Previous {
		if prev.Origin != c.Origin || prev.Size > c.Size {
			return fmt.Errorf("%w: %s of %d entries, seen was %s of %d", ErrFork, c.Origin, c.Size, prev.Origin, prev.Size)
		}
	}
	return nil
}

// hashes reads the tiles of leaf hashes and recomputes the root from them.
func (v *verification) hashes(ctx context.Context) error {
	c := v.sum.Checkpoint
	for _, t := range TilesOf(c.Size) {
		if t.Level != 0 {
			continue
		}
		b, err := v.hashTile(ctx, t)
		if err != nil {
			return err
		}
		for i := range t.Width {
			v.tree.Append(tlog.Hash(b[i*hashSize:]))
			if err := v.continues(); err != nil {
				return err
			}
		}
	}
	if v.tree.Root() != c.Root {
		return fmt.Errorf("%w: %s", ErrTampered, v.blame(ctx))
	}
	return nil
}

// continues compares the tree with what was seen before at that size.
func (v *verification) continues() error {
	for _, prev := range v.opts.Previous {
		if prev.Size == v.tree.Size() && prev.Root != v.tree.Root() {
			return fmt.Errorf("%w: its first %d entries are others than those seen", ErrFork, prev.Size)
		}
	}
	return nil
}

func (v *verification) hashTile(ctx context.Context, t Tile) ([]byte, error) {
	b, err := readTile(ctx, v.src, t)
	if err != nil {
		return nil, err
	}
	if len(b) != t.Width*hashSize {
		return nil, fmt.Errorf("%w: %s has %d bytes, want %d", ErrTampered, t.Path(), len(b), t.Width*hashSize)
	}
	return b, nil
}

// upper compares the tiles above the leaf hashes with the tree.
func (v *verification) upper(ctx context.Context) error {
	for _, t := range TilesOf(v.sum.Checkpoint.Size) {
		if t.Level < 1 {
			continue
		}
		got, err := v.hashTile(ctx, t)
		if err != nil {
			return err
		}
		want, err := v.tree.Tile(t)
		if err != nil {
			return err
		}
		if string(got) != string(want) {
			return fmt.Errorf("%w: %s is not what lies below it", ErrTampered, t.Path())
		}
	}
	return nil
}

// blame says which tile most likely made the root differ: the first whose
// leaves do not hash to it.
func (v *verification) blame(ctx context.Context) string {
	for _, t := range TilesOf(v.sum.Checkpoint.Size) {
		if t.Level != entriesLevel {
			continue
		}
		bundle := t
		t.Level = 0
		stored, err := v.tree.Tile(t)
		if err != nil {
			break
		}
		b, err := readTile(ctx, v.src, bundle)
		if err != nil {
			break
		}
		leaves, err := ParseBundle(b, t.Width)
		if err != nil {
			break
		}
		for i, leaf := range leaves {
			if h := tlog.RecordHash(leaf); string(h[:]) != string(stored[i*hashSize:(i+1)*hashSize]) {
				return fmt.Sprintf("%s, at entry %d, does not give the signed root", t.Path(), t.N*TileWidth+uint64(i))
			}
		}
	}
	return "its tiles do not give the signed root"
}
