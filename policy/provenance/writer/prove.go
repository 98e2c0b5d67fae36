package writer

import (
	"fmt"
	"io/fs"

	"golang.org/x/mod/sumdb/tlog"
)

// A Proof shows that an entry stands in the tree of a signed checkpoint.
type Proof struct {
	Leaf [32]byte // its leaf hash (RFC 6962 section 2.1)
	Size uint64   // of the tree
	Path tlog.RecordProof
}

// Prove returns the inclusion proof of an entry in the tree that readers see.
// What that does not have is fs.ErrNotExist.
func (w *Writer) Prove(index uint64) (*Proof, error) {
	w.mu.RLock()
	s := w.published
	w.mu.RUnlock()
	if index >= s.tree.Size() || index >= uint64(len(s.leaves)) {
		return nil, fmt.Errorf("%w: entry %d", fs.ErrNotExist, index)
	}
	path, err := tlog.ProveRecord(int64(s.tree.Size()), int64(index), s.tree.Hashes())
	if err != nil {
		return nil, fmt.Errorf("inclusion of %d: %w", index, err)
	}
	return &Proof{Leaf: tlog.RecordHash(s.leaves[index]), Size: s.tree.Size(), Path: path}, nil
}
