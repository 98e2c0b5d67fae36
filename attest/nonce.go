package attest

import (
	"omega/internal/labelhash"
	"omega/internal/merkle"
)

// MaxNonces bounds how many nonces share one report.
const MaxNonces = 1024

// NonceProof says that one nonce is among those of a session statement.
type NonceProof struct {
	Nonce Bytes32 `json:"nonce"`
	Index uint32  `json:"index"`
	// Path is the inclusion proof below the session's nonce root, nearest
	// sibling first; empty where one nonce was asked with alone.
	Path []Bytes32 `json:"path" most:"32"`
}

// Nonces are those that arrived together, in order.
type Nonces []Bytes32

// leaves hide the nonces from one another's askers: a path shows hashes only.
func (n Nonces) leaves() []merkle.Hash {
	out := make([]merkle.Hash, len(n))
	for i, nonce := range n {
		out[i] = nonceLeaf(nonce)
	}
	return out
}

// Root is the session statement's nonce root.
func (n Nonces) Root() [32]byte { return merkle.Root(n.leaves()) }

// Proofs are the proofs of all nonces, in order.
func (n Nonces) Proofs() []NonceProof {
	leaves := n.leaves()
	out := make([]NonceProof, len(n))
	for i := range n {
		out[i] = NonceProof{Nonce: n[i], Index: uint32(i), Path: fromHashes(merkle.Proof(leaves, i))}
	}
	return out
}

// Holds reports whether the proof's nonce is one of the session's.
func (p *NonceProof) Holds(s *Session) bool {
	return s.NonceCount <= MaxNonces &&
		merkle.Verify(merkle.Hash(s.NonceRoot), nonceLeaf(p.Nonce), int(p.Index), int(s.NonceCount), toHashes(p.Path))
}

func nonceLeaf(nonce Bytes32) merkle.Hash {
	return merkle.Hash(labelhash.Sum256("omega/nonce/v1", nonce[:]))
}

func fromHashes(h []merkle.Hash) []Bytes32 {
	out := make([]Bytes32, len(h))
	for i := range h {
		out[i] = Bytes32(h[i])
	}
	return out
}

func toHashes(b []Bytes32) []merkle.Hash {
	out := make([]merkle.Hash, len(b))
	for i := range b {
		out[i] = merkle.Hash(b[i])
	}
	return out
}
