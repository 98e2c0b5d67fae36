package attest

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"

	"omega/internal/labelhash"
	"omega/internal/strictjson"
)

// InvocationVersion is the format of an invocation statement.
const InvocationVersion = "omega/invocation/v1"

// Bounds of an invocation statement.
const (
	MaxInvocation = 64 << 10
	maxLabels     = 64
)

// Invocation says that one agent made one output of one input, and which entry
// of the provenance log speaks of it. Input and output are salted commitments:
// the statement can be shown to those who may not learn either.
type Invocation struct {
	Version string `json:"version"`
	// Platform is the digest of the boot claims.
	Platform Bytes32 `json:"platform"`
	Instance string  `json:"instance"`
	// Identity is the root over the agent's components.
	Identity Bytes32 `json:"identity"`
	Input    Bytes32 `json:"input"`
	Output   Bytes32 `json:"output"`
	// LogIndex and LogLeaf are the entry's index in the provenance log and its
	// leaf hash (RFC 6962 section 2.1).
	LogIndex uint64  `json:"log_index"`
	LogLeaf  Bytes32 `json:"log_leaf"`
	// Labels are what the policy knows of the data, sorted, each once.
	Labels []string `json:"labels" most:"64"`
}

// SignedInvocation is an invocation statement with the attestation key's
// signature and, for those who hold input and output, the salts.
type SignedInvocation struct {
	Statement  Invocation `json:"statement"`
	Signature  []byte     `json:"signature"`
	InputSalt  Bytes16    `json:"input_salt,omitzero"`
	OutputSalt Bytes16    `json:"output_salt,omitzero"`
}

// CommitInput is what an invocation statement says of an input.
func CommitInput(salt [16]byte, input []byte) Bytes32 {
	return labelhash.Sum256("omega/invocation-input/v1", salt[:], input)
}

// CommitOutput is what an invocation statement says of an output.
func CommitOutput(salt [16]byte, output []byte) Bytes32 {
	return labelhash.Sum256("omega/invocation-output/v1", salt[:], output)
}

// Message is what the attestation key signs.
func (i *Invocation) Message() [64]byte {
	parts := [][]byte{[]byte(i.Version), i.Platform[:], []byte(i.Instance), i.Identity[:], i.Input[:], i.Output[:], be64(i.LogIndex), i.LogLeaf[:]}
	for _, l := range i.Labels {
		parts = append(parts, []byte(l))
	}
	return labelhash.Sum512("omega/invocation-statement/v1", parts...)
}

// Validate refuses statements that are not complete or not in their one form.
func (i *Invocation) Validate() error {
	switch {
	case i.Version != InvocationVersion:
		return fmt.Errorf("version %.40q, want %q", i.Version, InvocationVersion)
	case i.Instance == "" || i.Identity.IsZero() || i.Platform.IsZero():
		return errors.New("no agent or no platform")
	case i.Input.IsZero() || i.Output.IsZero() || i.LogLeaf.IsZero():
		return errors.New("no input, no output or no entry")
	case len(i.Labels) > maxLabels:
		return fmt.Errorf("%d labels", len(i.Labels))
	}
	for n, l := range i.Labels {
		if l == "" || n > 0 && i.Labels[n-1] >= l {
			return errors.New("labels are not sorted, or one comes twice")
		}
	}
	return shortText(slices.Concat([]string{i.Instance}, i.Labels)...)
}

// ParseInvocation reads a signed invocation statement from strict JSON.
func ParseInvocation(b []byte) (*SignedInvocation, error) {
	s := &SignedInvocation{}
	if err := strictjson.Decode(b, s, strictjson.Limits{MaxBytes: MaxInvocation}); err != nil {
		return nil, fmt.Errorf("invocation: %w", err)
	}
	if err := s.Statement.Validate(); err != nil {
		return nil, fmt.Errorf("invocation: %w", err)
	}
	return s, nil
}

// SignedBy reports whether the attestation key signed the statement.
func (s *SignedInvocation) SignedBy(attestationKey [32]byte) bool {
	message := s.Statement.Message()
	return ed25519.Verify(attestationKey[:], message[:], s.Signature)
}
