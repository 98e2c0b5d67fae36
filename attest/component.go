package attest

import (
	"crypto/sha256"

	"omega/internal/labelhash"
	"omega/internal/merkle"
)

// The kinds of components that the measured image brings itself. No principal
// signs them: the launch digest stands for them.
const (
	KindPolicy  = "policy"
	KindSandbox = "sandbox"
)

// Kinds of components that an agent bundle brings in its manifest, so that a
// signature of the bundle is one of them.
const (
	KindImage = "image"
	KindPeer  = "peer"
)

// Component is one part of an agent, with the principal who vouches for it. In
// evidence it stands in one of three forms: whole; Known and Salt alone, for a
// verifier that has appraised the rest or reads it in an agent before this one;
// or Hidden alone, for everybody else.
type Component struct {
	// Hidden is the commitment to a component that is not shown.
	Hidden Bytes32 `json:"hidden,omitzero"`
	// Known is the ID of a component that the verifier named as known, or that
	// stands whole in an agent before this one.
	Known Bytes32 `json:"known,omitzero"`
	// Kind is image, manifest, tool-descriptors, model, adapter, data, peer, engine, sandbox or policy.
	Kind      string  `json:"kind,omitempty"`
	Name      string  `json:"name,omitempty"`
	Digest    Bytes32 `json:"digest,omitzero"`
	Role      string  `json:"role,omitempty"`
	Principal string  `json:"principal,omitempty"`
	// Signatures are the principal's, as many as its threshold asks for.
	Signatures []Signature `json:"signatures,omitempty" most:"8"`
	// Salt hides the component in its commitment from who is not shown it.
	Salt Bytes16 `json:"salt,omitzero"`
}

// Signature is one DSSE signature of a principal.
type Signature struct {
	// Key is the signer's public key, a DER SubjectPublicKeyInfo. It proves
	// nothing by itself: an appraisal policy names its SHA-256.
	Key []byte `json:"key"`
	// Payload is the in-toto statement that was signed.
	Payload []byte `json:"payload"`
	Sig     []byte `json:"sig"`
}

// KeyID is the SHA-256 of the signer's SubjectPublicKeyInfo.
func (s *Signature) KeyID() Bytes32 { return sha256.Sum256(s.Key) }

// KeyIDs are those of all signatures, in order.
func (c *Component) KeyIDs() []Bytes32 {
	out := make([]Bytes32, len(c.Signatures))
	for i := range c.Signatures {
		out[i] = c.Signatures[i].KeyID()
	}
	return out
}

// Measured reports whether the component is the measured image's own.
func (c *Component) Measured() bool {
	return (c.Kind == KindPolicy || c.Kind == KindSandbox) && len(c.Signatures) == 0
}

// Shown reports whether the component stands there whole.
func (c *Component) Shown() bool { return c.Hidden.IsZero() && c.Known.IsZero() }

// ID is the component's digest without its salt: what a verifier remembers of
// it. It is zero for a component that is hidden.
func (c *Component) ID() Bytes32 {
	if !c.Shown() {
		return c.Known
	}
	parts := make([][]byte, 0, 6+3*len(c.Signatures))
	parts = append(parts, []byte(c.Kind), []byte(c.Name), c.Digest[:], []byte(c.Role), []byte(c.Principal), be32(uint32(len(c.Signatures))))
	for i := range c.Signatures {
		s := &c.Signatures[i]
		parts = append(parts, s.Key, s.Payload, s.Sig)
	}
	return labelhash.Sum256("omega/component/v1", parts...)
}

// Commitment is the component's leaf in the agent's identity: its ID behind its
// salt, so that who guesses the component cannot confirm the guess.
func (c *Component) Commitment() Bytes32 {
	if !c.Hidden.IsZero() {
		return c.Hidden
	}
	return Commitment(c.ID(), c.Salt)
}

// Commitment is that of a component with this ID behind this salt.
func Commitment(id Bytes32, salt Bytes16) Bytes32 {
	return labelhash.Sum256("omega/component-commitment/v1", salt[:], id[:])
}

// hide is the component's hidden form.
func (c *Component) hide() Component { return Component{Hidden: c.Commitment()} }

// IdentityRoot is an agent's identity: the root over its components in order.
func IdentityRoot(c []Component) [32]byte {
	leaves := make([]merkle.Hash, len(c))
	for i := range c {
		leaves[i] = merkle.Hash(c[i].Commitment())
	}
	return merkle.Root(leaves)
}

// RootOfCommitments is the identity over commitments in order.
func RootOfCommitments(c []Bytes32) [32]byte { return merkle.Root(c) }
