package writer

import (
	"fmt"
	"io/fs"

	"omega/policy/provenance"
)

// snapshot is what readers see: a tree that a signed checkpoint covers.
type snapshot struct {
	tree   provenance.Tree
	leaves [][]byte
}

// publish shows readers the leaves that signed covers.
func (w *Writer) publish(leaves [][]byte, signed []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.published = snapshot{tree: w.tree.Snapshot(), leaves: append(w.published.leaves, leaves...)}
	w.checkpoint = signed
}

// Read returns what is at a path below the log's URL: "checkpoint", or a tile
// of C2SP tlog-tiles, partial ones of any width included. What the published
// tree does not have is fs.ErrNotExist.
func (w *Writer) Read(path string) ([]byte, error) {
	if path == "checkpoint" {
		if b := w.Checkpoint(); len(b) > 0 {
			return b, nil
		}
		return nil, fs.ErrNotExist
	}
	tile, err := provenance.ParseTile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	w.mu.RLock()
	s := w.published
	w.mu.RUnlock()
	return s.read(tile)
}

func (s *snapshot) read(tile provenance.Tile) (b []byte, err error) {
	if tile.Level >= 0 {
		b, err = s.tree.Tile(tile)
	} else {
		b, err = provenance.Bundle(s.leaves, tile)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return b, nil
}
