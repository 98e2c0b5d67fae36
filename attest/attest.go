// Package attest holds the words of Omega's remote attestation: what a guest
// claims, how the claims are bound into the REPORT_DATA of an SNP report, the
// evidence that carries both, and the reference values it is appraised
// against. It checks nothing (attest/verifier does) and does no I/O.
package attest

import (
	"encoding/binary"

	"omega/internal/labelhash"
	"omega/internal/merkle"
)

// Versions of the formats.
const (
	BootVersion     = "omega/boot/v1"
	SessionVersion  = "omega/session/v1"
	EvidenceVersion = "omega/evidence/v1"
)

// States of the GPU. The zero value is none of them.
const (
	GPUAbsent  = "absent"
	GPUReady   = "ready"
	GPURefused = "refused"
)

// BootClaims are what the guest claims for the whole of one boot.
type BootClaims struct {
	Version string  `json:"version"`
	BootID  Bytes16 `json:"boot_id"`
	// AttestationKey and LogKey are Ed25519 public keys, held by the signer.
	AttestationKey Bytes32 `json:"attestation_key"`
	LogKey         Bytes32 `json:"log_key"`
	// TLSKey is the SHA-256 of the SubjectPublicKeyInfo of the TLS key.
	TLSKey Bytes32 `json:"tls_key"`
	// HPKEKey is an X25519 public key.
	HPKEKey   Bytes32 `json:"hpke_key"`
	LogOrigin string  `json:"log_origin"`
	// PolicyDigest is policy.Digest of the agent policy in the image.
	PolicyDigest Bytes32 `json:"policy_digest"`
	// ConfigDigest is the SHA-256 of the launch config, zero without one.
	ConfigDigest Bytes32 `json:"config_digest"`
	Profile      string  `json:"profile"`
	SVN          uint32  `json:"svn"`
	GPU          string  `json:"gpu"`
	// GPUEvidence is the digest of the GPU's boot-time evidence, zero where
	// there is no GPU.
	GPUEvidence Bytes32 `json:"gpu_evidence"`
}

// Digest is the boot's half of what REPORT_DATA binds.
func (c *BootClaims) Digest() [32]byte {
	return labelhash.Sum256("omega/boot-claims/v1", []byte(c.Version), c.BootID[:],
		c.AttestationKey[:], c.LogKey[:], c.TLSKey[:], c.HPKEKey[:], []byte(c.LogOrigin),
		c.PolicyDigest[:], c.ConfigDigest[:], []byte(c.Profile), be32(c.SVN), []byte(c.GPU), c.GPUEvidence[:])
}

// Session is what the guest claims for one nonce.
type Session struct {
	Version string  `json:"version"`
	Nonce   Bytes32 `json:"nonce"`
	// Checkpoint is the provenance log's newest checkpoint, a C2SP signed note.
	Checkpoint []byte  `json:"checkpoint"`
	AgentsRoot Bytes32 `json:"agents_root"`
	AgentCount uint32  `json:"agent_count"`
	// GPUEvidence is the digest of GPU evidence for this nonce, or zero.
	GPUEvidence Bytes32 `json:"gpu_evidence"`
}

// Digest is the session's half of what REPORT_DATA binds.
func (s *Session) Digest() [32]byte {
	return labelhash.Sum256("omega/session-claims/v1", []byte(s.Version), s.Nonce[:], s.Checkpoint,
		s.AgentsRoot[:], be32(s.AgentCount), s.GPUEvidence[:])
}

// ReportData is the REPORT_DATA that binds the digests of boot claims and
// session.
func ReportData(boot, session [32]byte) [64]byte {
	return labelhash.Sum512("omega/report-data/v1", boot[:], session[:])
}

// Component is one part of an agent, with the principal who vouches for it.
type Component struct {
	// Kind is image, manifest, tool-descriptors, model, adapter, sandbox or policy.
	Kind      string  `json:"kind"`
	Name      string  `json:"name"`
	Digest    Bytes32 `json:"digest"`
	Role      string  `json:"role"`
	Principal string  `json:"principal"`
	KeyID     string  `json:"key_id"`
	// Salt hides the component in its commitment from who is not shown it.
	Salt Bytes16 `json:"salt"`
}

// Leaf is the component's commitment in the agent's identity.
func (c *Component) Leaf() merkle.Hash {
	return merkle.Commit(c.Salt, []byte(c.Kind), []byte(c.Name), c.Digest[:],
		[]byte(c.Role), []byte(c.Principal), []byte(c.KeyID))
}

// IdentityRoot is an agent's identity: the root over its components in order.
func IdentityRoot(c []Component) [32]byte {
	leaves := make([]merkle.Hash, len(c))
	for i := range c {
		leaves[i] = c[i].Leaf()
	}
	return merkle.Root(leaves)
}

// States of an agent.
const (
	AgentAdmitted = "admitted"
	AgentRunning  = "running"
	AgentExited   = "exited"
	AgentFailed   = "failed"
	AgentStopped  = "stopped"
)

// Agent is one admitted agent.
type Agent struct {
	Instance string `json:"instance"`
	// Index counts admissions from the start of the boot.
	Index uint32 `json:"index"`
	State string `json:"state"`
	Name  string `json:"name"`
	// Bundle is the digest of the agent bundle.
	Bundle Bytes32 `json:"bundle"`
	// Identity is IdentityRoot of the components.
	Identity   Bytes32     `json:"identity"`
	Components []Component `json:"components"`
}

// Leaf is the agent's value in the set of agents.
func (a *Agent) Leaf() merkle.Hash {
	return merkle.Hash(labelhash.Sum256("omega/agent-leaf/v1", []byte(a.Instance), be32(a.Index),
		[]byte(a.State), []byte(a.Name), a.Bundle[:], a.Identity[:]))
}

// AgentsRoot is the root over the agents in order.
func AgentsRoot(a []Agent) [32]byte {
	leaves := make([]merkle.Hash, len(a))
	for i := range a {
		leaves[i] = a[i].Leaf()
	}
	return merkle.Root(leaves)
}

// Evidence is what an attester hands over for one nonce.
type Evidence struct {
	Version string `json:"version"`
	// Report is the raw SNP attestation report.
	Report []byte `json:"report"`
	// Certificates is AMD's certificate table (GHCB 2.0, SNP extended guest
	// request); it may be empty.
	Certificates []byte     `json:"certificates"`
	Boot         BootClaims `json:"boot"`
	Session      Session    `json:"session"`
	Agents       []Agent    `json:"agents"`
}

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
