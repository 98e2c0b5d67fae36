package merkle

import (
	"crypto/sha256"
	"testing"
)

func leaves(n int) []Hash {
	out := make([]Hash, n)
	for i := range out {
		out[i] = Hash(sha256.Sum256([]byte{byte(i), byte(i >> 8)}))
	}
	return out
}

func TestEveryLeafOfEveryTreeIsProvenAtItsPlaceOnly(t *testing.T) {
	for n := 1; n <= 33; n++ {
		l := leaves(n)
		root := Root(l)
		for i := range n {
			p := Proof(l, i)
			if !Verify(root, l[i], i, n, p) {
				t.Fatalf("leaf %d of %d is not proven", i, n)
			}
			for j := range n {
				if j != i && Verify(root, l[i], j, n, p) {
					t.Errorf("leaf %d of %d passes for leaf %d", i, n, j)
				}
			}
			if Verify(root, l[i], i, n, append(p, Hash{})) {
				t.Errorf("leaf %d of %d: a longer proof passes", i, n)
			}
			if len(p) > 0 && Verify(root, l[i], i, n, p[1:]) {
				t.Errorf("leaf %d of %d: a shorter proof passes", i, n)
			}
		}
	}
}

func TestChangedProofsAreRefused(t *testing.T) {
	l := leaves(7)
	root := Root(l)
	for i := range l {
		p := Proof(l, i)
		for j := range p {
			p[j][0] ^= 1
			if Verify(root, l[i], i, len(l), p) {
				t.Errorf("leaf %d: changed step %d passes", i, j)
			}
			p[j][0] ^= 1
		}
		if Verify(root, Hash{}, i, len(l), p) {
			t.Errorf("leaf %d: another value passes", i)
		}
	}
	if Verify(root, l[0], -1, 7, nil) || Verify(root, l[0], 7, 7, nil) || Verify(Hash{}, Hash{}, 0, 0, nil) {
		t.Error("a place outside of the tree passes")
	}
	if Proof(l, -1) != nil || Proof(l, 7) != nil {
		t.Error("a place outside of the tree has a proof")
	}
}

func TestANodeCannotBeTakenForALeaf(t *testing.T) {
	l := leaves(4)
	inner := []Hash{node(leaf(l[0]), leaf(l[1])), node(leaf(l[2]), leaf(l[3]))}
	if Root(inner) == Root(l) {
		t.Error("a tree of two nodes has the root of a tree of four leaves")
	}
}

func TestCommitmentsDependOnSaltAndParts(t *testing.T) {
	a := Commit([16]byte{1}, []byte("a"), []byte("b"))
	for name, b := range map[string]Hash{
		"salt":  Commit([16]byte{2}, []byte("a"), []byte("b")),
		"parts": Commit([16]byte{1}, []byte("ab")),
	} {
		if a == b {
			t.Errorf("%s: same commitment", name)
		}
	}
}
