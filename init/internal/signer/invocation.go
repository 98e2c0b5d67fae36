package signer

import (
	"crypto/ed25519"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"omega/attest"
)

// maxInvocations bounds the indexes that are remembered as used; after that the
// boot makes no further invocation statements.
const maxInvocations = 1 << 20

// Invocation signs an invocation statement. The agent must be of this boot, and
// the entry must be in the log below a checkpoint of that size that was signed
// lately: proof is its inclusion proof there. One entry is worth one statement.
func (s *Signer) Invocation(i attest.Invocation, size uint64, proof [][32]byte) (*attest.SignedInvocation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.frontKnown {
		return nil, errIncomplete
	}
	i.Version, i.Platform = attest.InvocationVersion, s.boot
	if err := i.Validate(); err != nil {
		return nil, fmt.Errorf("invocation: %w", err)
	}
	if !s.agents.Has(i.Instance, i.Identity) {
		return nil, fmt.Errorf("invocation: no agent %.80q of that identity", i.Instance)
	}
	if i.LogIndex >= s.head.size {
		return nil, fmt.Errorf("invocation: the log has no entry %d", i.LogIndex)
	}
	below := s.heads[size%keptHeads]
	if below.note == nil || below.size != size || i.LogIndex >= size {
		return nil, fmt.Errorf("invocation: no checkpoint of size %d above entry %d was signed lately", size, i.LogIndex)
	}
	path := make(tlog.RecordProof, len(proof))
	for n := range proof {
		path[n] = tlog.Hash(proof[n])
	}
	if err := tlog.CheckRecord(path, int64(below.size), below.root, int64(i.LogIndex), tlog.Hash(i.LogLeaf)); err != nil {
		return nil, fmt.Errorf("invocation: entry %d is another", i.LogIndex)
	}
	if s.used[i.LogIndex] {
		return nil, fmt.Errorf("invocation: entry %d has its statement already", i.LogIndex)
	}
	if len(s.used) >= maxInvocations {
		return nil, errors.New("invocation: this boot has made all statements that it can")
	}
	s.used[i.LogIndex] = true
	message := i.Message()
	return &attest.SignedInvocation{Statement: i, Signature: ed25519.Sign(s.attestation, message[:])}, nil
}
