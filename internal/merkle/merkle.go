// Package merkle builds small Merkle trees in memory, with the split of
// RFC 6962 section 2.1 and different prefixes for leaves and nodes. It is for
// sets that are attested whole (agents, components, nonces); the provenance
// log has its own tiled tree.
package merkle

import (
	"crypto/sha256"
	"crypto/subtle"
	"math/bits"

	"omega/internal/labelhash"
)

// Hash is one leaf's value or one node of a tree.
type Hash [sha256.Size]byte

// Prefixes of RFC 6962 section 2.1: a node can never be taken for a leaf.
const (
	leafPrefix = 0
	nodePrefix = 1
)

// Commit is a leaf that hides its parts behind a random salt.
func Commit(salt [16]byte, parts ...[]byte) Hash {
	return Hash(labelhash.Sum256("omega/commit/v1", append([][]byte{salt[:]}, parts...)...))
}

// Root is the root over leaves in the order given. The root of no leaves is
// the hash of nothing.
func Root[H ~[sha256.Size]byte](leaves []H) Hash {
	switch len(leaves) {
	case 0:
		return Hash(sha256.Sum256(nil))
	case 1:
		return leaf(Hash(leaves[0]))
	}
	k := split(len(leaves))
	return node(Root(leaves[:k]), Root(leaves[k:]))
}

// Proof is the inclusion proof of leaf i, nearest sibling first. It is nil
// where there is no leaf i.
func Proof(leaves []Hash, i int) []Hash {
	if i < 0 || i >= len(leaves) || len(leaves) == 1 {
		return nil
	}
	k := split(len(leaves))
	if i < k {
		return append(Proof(leaves[:k], i), Root(leaves[k:]))
	}
	return append(Proof(leaves[k:], i-k), Root(leaves[:k]))
}

// Verify reports whether value is leaf i of the n leaves below root.
func Verify(root, value Hash, i, n int, proof []Hash) bool {
	if i < 0 || i >= n {
		return false
	}
	got, ok := climb(leaf(value), i, n, proof)
	return ok && subtle.ConstantTimeCompare(got[:], root[:]) == 1
}

// climb follows a proof from its far end, so that each level knows its split.
func climb(h Hash, i, n int, proof []Hash) (Hash, bool) {
	if n == 1 {
		return h, len(proof) == 0
	}
	if len(proof) == 0 {
		return h, false
	}
	k, last := split(n), proof[len(proof)-1]
	if i < k {
		l, ok := climb(h, i, k, proof[:len(proof)-1])
		return node(l, last), ok
	}
	r, ok := climb(h, i-k, n-k, proof[:len(proof)-1])
	return node(last, r), ok
}

// split is the largest power of two below n, for n of 2 or more.
func split(n int) int {
	return 1 << (bits.Len(uint(n-1)) - 1)
}

func leaf(v Hash) Hash {
	var b [1 + sha256.Size]byte
	b[0] = leafPrefix
	copy(b[1:], v[:])
	return sha256.Sum256(b[:])
}

func node(l, r Hash) Hash {
	var b [1 + 2*sha256.Size]byte
	b[0] = nodePrefix
	copy(b[1:], l[:])
	copy(b[1+sha256.Size:], r[:])
	return sha256.Sum256(b[:])
}
