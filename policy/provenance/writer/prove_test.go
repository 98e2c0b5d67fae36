package writer

import (
	"errors"
	"io/fs"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"omega/policy/provenance"
)

func TestEveryEntryIsProvenInTheTreeThatWasSigned(t *testing.T) {
	s := newSigner(t)
	c := s.config()
	w := newWriter(t, c)
	for range 300 { // more than a tile
		if _, err := w.Append(t.Context(), boot()); err != nil {
			t.Fatal(err)
		}
	}
	head, err := provenance.OpenCheckpoint(w.Checkpoint(), c.Origin, c.LogKey[:])
	if err != nil {
		t.Fatal(err)
	}
	for index := range head.Size {
		p, err := w.Prove(index)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(p.Path, int64(p.Size), head.Root, int64(index), tlog.Hash(p.Leaf)); p.Size != head.Size || err != nil {
			t.Fatalf("entry %d of %d: %v", index, p.Size, err)
		}
	}
	for _, index := range []uint64{head.Size, 1 << 63} {
		if _, err := w.Prove(index); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("entry %d: %v", index, err)
		}
	}
}
