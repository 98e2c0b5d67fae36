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
		return fmt.Errorf("%w: invocation statement: %w", ErrSignature, err)
	}
	if !s.SignedBy(e.Boot.AttestationKey) {
		return fmt.Errorf("%w: invocation statement: not signed by this platform's attestation key", ErrSignature)
	}
	if boot := attest.Bytes32(e.Boot.Digest()); i.Platform != boot {
		return fmt.Errorf("%w: invocation statement: found platform %s, expected %s", ErrMismatch, i.Platform, boot)
	}
	found := false
	for n := range e.Agents {
		a := &e.Agents[n]
		found = found || a.Hidden.IsZero() && a.Identity == i.Identity && (!a.Shown() || a.Instance == i.Instance)
	}
	if !found {
		return fmt.Errorf("%w: invocation statement: the evidence shows no agent %q of identity %s", ErrMismatch, i.Instance, i.Identity)
	}
	head, err := openCheckpoint(e.Session.Checkpoint, "omega/"+hex.EncodeToString(e.Boot.BootID[:]), e.Boot.LogKey)
	if err != nil {
		return fmt.Errorf("%w: invocation statement: %w", ErrMismatch, err)
	}
	if i.LogIndex >= head.size {
		return fmt.Errorf("%w: invocation statement: entry %d, the log has %d: ask for newer evidence", ErrMismatch, i.LogIndex, head.size)
	}
	return nil
}
