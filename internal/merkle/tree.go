package merkle

import "slices"

// Tree keeps the hashes of all nodes, so that a proof costs no hashing and one
// more leaf only those above it. It never changes: a change makes a new one,
// and the zero Tree is that of no leaves.
type Tree struct {
	// levels are the nodes from the leaves up. A node without a sibling stands on
	// the next level too, which is the split of RFC 6962.
	levels [][]Hash
}

// With is the tree with value as leaf i: one that is there, or the next.
func (t Tree) With(i int, value Hash) Tree {
	var out Tree
	for h, level := leaf(value), 0; ; level++ {
		var row []Hash
		if level < len(t.levels) {
			row = slices.Clone(t.levels[level])
		}
		if i < len(row) {
			row[i] = h
		} else {
			row = append(row, h)
		}
		out.levels = append(out.levels, row)
		if len(row) == 1 {
			return out
		}
		if i^1 < len(row) {
			h = node(row[i&^1], row[i|1])
		}
		i /= 2
	}
}

// Root is Root over the leaves.
func (t Tree) Root() Hash {
	if len(t.levels) == 0 {
		return Root[Hash](nil)
	}
	return t.levels[len(t.levels)-1][0]
}

// Proof is the inclusion proof of leaf i, nearest sibling first. It is nil
// where there is no leaf i.
func (t Tree) Proof(i int) []Hash {
	if len(t.levels) == 0 || i < 0 || i >= len(t.levels[0]) {
		return nil
	}
	var out []Hash
	for _, row := range t.levels {
		if i^1 < len(row) {
			out = append(out, row[i^1])
		}
		i /= 2
	}
	return out
}
