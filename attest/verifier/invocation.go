package verifier

import (
	"encoding/hex"
	"fmt"

	"omega/attest"
)

// Invocation holds an invocation statement against evidence that was appraised:
// it is signed by this boot's attestation key, about an agent that is shown, and
// about an entry of the log that the evidence fixes. Evidence of an opening
// names no instance; the identity alone then says which agent it is.
func Invocation(s *attest.SignedInvocation, e *attest.Evidence) error {
	i := &s.Statement
	if err := i.Validate(); err != nil {
		return Malformed(ErrSignature, "invocation statement", err)
	}
	if !s.SignedBy(e.Boot.AttestationKey) {
		return refusal(ErrSignature, "the invocation statement is not signed by this platform's attestation key", "a signature by another key, or over other bytes", "one by "+e.Boot.AttestationKey.String())
	}
	if boot := attest.Bytes32(e.Boot.Digest()); i.Platform != boot {
		return refusal(ErrMismatch, "the invocation statement is about another platform, or another boot", i.Platform, boot)
	}
	found := false
	for n := range e.Agents {
		a := &e.Agents[n]
		found = found || a.Hidden.IsZero() && a.Identity == i.Identity && (!a.Shown() || a.Instance == i.Instance)
	}
	if !found {
		return refusal(ErrMismatch, "the invocation statement is about an agent that the evidence does not show", fmt.Sprintf("agent %q of identity %s", i.Instance, i.Identity), fmt.Sprintf("one of the %d agents shown", len(e.Agents)))
	}
	head, err := openCheckpoint(e.Session.Checkpoint, "omega/"+hex.EncodeToString(e.Boot.BootID[:]), e.Boot.LogKey)
	if err != nil {
		return Malformed(ErrMismatch, "evidence's checkpoint of the log", err)
	}
	if i.LogIndex >= head.size {
		return refusal(ErrMismatch, "the invocation statement is newer than the evidence: ask for newer evidence", fmt.Sprintf("entry %d", i.LogIndex), fmt.Sprintf("an entry below %d", head.size))
	}
	return nil
}
