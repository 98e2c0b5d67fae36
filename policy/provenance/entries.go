package provenance

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// entries reads every leaf, compares it with its hash in the tree, and opens it.
func (v *verification) entries(ctx context.Context) error {
	size := v.sum.Checkpoint.Size
	for _, t := range TilesOf(size) {
		if t.Level != entriesLevel {
			continue
		}
		b, err := readTile(ctx, v.src, t)
		if err != nil {
			return err
		}
		leaves, err := ParseBundle(b, t.Width)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrTampered, t.Path(), err)
		}
		for i, leaf := range leaves {
			index := t.N*TileWidth + uint64(i)
			if tlog.RecordHash(leaf) != v.tree.levels[0][index] {
				return fmt.Errorf("%w: entry %d in %s is not the one that was signed for", ErrTampered, index, t.Path())
			}
			if err := v.leaf(index, leaf); err != nil {
				return fmt.Errorf("entry %d in %s: %w", index, t.Path(), err)
			}
		}
		if v.opts.Progress != nil {
			v.opts.Progress(t.N*TileWidth+uint64(t.Width), size)
		}
	}
	return nil
}

// leaf checks one leaf's form and place, and opens it where the key allows.
func (v *verification) leaf(index uint64, b []byte) error {
	l, err := ParseLeaf(b)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFraming, err)
	}
	if l.Seq != index {
		return fmt.Errorf("%w: it is numbered %d", ErrFraming, l.Seq)
	}
	item := Item{Index: index, Epoch: l.Epoch, Size: len(b), Header: l.Header, Leaf: b}
	if l.Header {
		err = v.header(l)
	} else {
		err = v.sealed(l, &item)
	}
	if err != nil || v.opts.Each == nil {
		return err
	}
	return v.opts.Each(item)
}

// header begins the next epoch: numbers have no gaps, and the first is 0.
func (v *verification) header(l *Leaf) error {
	if l.Epoch != uint64(v.sum.Epochs) {
		return fmt.Errorf("%w: epoch %d follows %d others", ErrFraming, l.Epoch, v.sum.Epochs)
	}
	if v.sum.Epochs++; v.sum.Epochs == 1 {
		v.sum.Recipients, v.first = len(l.Recipients), l.Recipients
	} else if !slices.EqualFunc(v.first, l.Recipients, func(a, b Recipient) bool { return a.Key == b.Key }) {
		v.rules.add(l.Seq, true, "epoch %d is sealed for other auditors than the first", l.Epoch)
	}
	v.epoch = nil
	if v.opts.Auditor == nil {
		return nil
	}
	epoch, err := OpenEpoch(v.sum.Checkpoint.Origin, l, v.opts.Auditor)
	if errors.Is(err, ErrNotRecipient) {
		return nil
	}
	v.epoch = epoch
	return err
}

func (v *verification) sealed(l *Leaf, item *Item) error {
	if l.Epoch+1 != uint64(v.sum.Epochs) {
		return fmt.Errorf("%w: it claims epoch %d", ErrFraming, l.Epoch)
	}
	v.sum.Entries++
	if v.epoch == nil {
		return nil
	}
	plain, salt, err := v.epoch.Open(l)
	if err != nil {
		return err
	}
	e, err := ParseEntry(plain)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFraming, err)
	}
	v.sum.Readable++
	item.Entry, item.Salt = &e, salt
	v.rules.entry(l.Seq, &e)
	return nil
}
