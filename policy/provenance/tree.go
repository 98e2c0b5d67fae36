package provenance

import (
	"fmt"
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// A Tree grows by one leaf hash at a time and keeps exactly the hashes that
// tiles show. It is not safe for concurrent use.
type Tree struct {
	size uint64
	// edge holds the perfect subtrees that make up the tree, the largest first.
	edge []tlog.Hash
	// levels holds, for each tile level, the hashes of its perfect subtrees.
	levels [maxTileLevel + 1][]tlog.Hash
}

// Append adds a leaf's hash (tlog.RecordHash of its bytes).
func (t *Tree) Append(h tlog.Hash) {
	t.levels[0] = append(t.levels[0], h)
	// Adding one to size carries through as many subtrees as it has trailing
	// ones, and each carry joins two subtrees of equal height.
	for height := range bits.TrailingZeros64(^t.size) {
		last := len(t.edge) - 1
		h = tlog.NodeHash(t.edge[last], h)
		t.edge = t.edge[:last]
		if height++; height%tileHeight == 0 {
			t.levels[height/tileHeight] = append(t.levels[height/tileHeight], h)
		}
	}
	t.edge = append(t.edge, h)
	t.size++
}

// Size is the number of leaves.
func (t *Tree) Size() uint64 { return t.size }

// Root is the hash of the whole tree (RFC 6962 section 2.1).
func (t *Tree) Root() tlog.Hash {
	if t.size == 0 {
		root, _ := tlog.TreeHash(0, nil)
		return root
	}
	h := t.edge[len(t.edge)-1]
	for i := len(t.edge) - 2; i >= 0; i-- {
		h = tlog.NodeHash(t.edge[i], h)
	}
	return h
}

// Tile returns the bytes of a hash tile, which must lie wholly in the tree.
func (t *Tree) Tile(tile Tile) ([]byte, error) {
	if tile.Level < 0 || tile.Level > maxTileLevel || tile.Width < 1 || tile.Width > TileWidth {
		return nil, fmt.Errorf("%w: %+v", ErrTile, tile)
	}
	level, begin := t.levels[tile.Level], tile.N*TileWidth
	if tile.N > uint64(len(level)) || begin+uint64(tile.Width) > uint64(len(level)) {
		return nil, fmt.Errorf("%w: %s lies beyond the tree", ErrTile, tile.Path())
	}
	out := make([]byte, 0, tile.Width*tlog.HashSize)
	for _, h := range level[begin : begin+uint64(tile.Width)] {
		out = append(out, h[:]...)
	}
	return out, nil
}

// Hashes makes the tree a tlog.HashReader, so that x/mod makes proofs from it.
func (t *Tree) Hashes() tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, 0, len(indexes))
		for _, i := range indexes {
			h, err := t.hash(i)
			if err != nil {
				return nil, err
			}
			out = append(out, h)
		}
		return out, nil
	})
}

// hash rebuilds one stored hash from the tile below it.
func (t *Tree) hash(index int64) (tlog.Hash, error) {
	tile := tlog.TileForIndex(tileHeight, index)
	data, err := t.Tile(Tile{Level: tile.L, N: uint64(tile.N), Width: tile.W})
	if err != nil {
		return tlog.Hash{}, err
	}
	return tlog.HashFromTile(tile, data, index)
}

// Snapshot is the tree as it is now. It may be read while t grows: the levels
// are only ever appended to, and the edge is copied.
func (t *Tree) Snapshot() Tree {
	return Tree{size: t.size, edge: slices.Clone(t.edge), levels: t.levels}
}
