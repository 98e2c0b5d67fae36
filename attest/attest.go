// Package attest holds the words of Omega's remote attestation: what a guest
// claims, how the claims are bound into the REPORT_DATA of an SNP report, the
// evidence that carries both, what may be left out of it, and the reference
// values it is appraised against. It checks nothing about the world
// (attest/verifier does) and does no I/O. docs/evidence.md has every field.
package attest

import (
	"encoding/binary"

	"omega/internal/labelhash"
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

// Digest is the boot's half of what REPORT_DATA binds. It is also the name of
// the platform for a verifier that has appraised it.
func (c *BootClaims) Digest() [32]byte {
	return labelhash.Sum256("omega/boot-claims/v1", []byte(c.Version), c.BootID[:],
		c.AttestationKey[:], c.LogKey[:], c.TLSKey[:], c.HPKEKey[:], []byte(c.LogOrigin),
		c.PolicyDigest[:], c.ConfigDigest[:], []byte(c.Profile), be32(c.SVN), []byte(c.GPU), c.GPUEvidence[:])
}

// Session is what the guest claims for the nonces of those who asked together.
type Session struct {
	Version string `json:"version"`
	// NonceRoot is the root over the nonces; each answer proves that its own is
	// one of the NonceCount below it.
	NonceRoot  Bytes32 `json:"nonce_root"`
	NonceCount uint32  `json:"nonce_count"`
	// Checkpoint is the provenance log's newest checkpoint, a C2SP signed note.
	Checkpoint []byte  `json:"checkpoint"`
	AgentsRoot Bytes32 `json:"agents_root"`
	AgentCount uint32  `json:"agent_count"`
	// GPUEvidence is the digest of GPU evidence for these nonces, or zero.
	GPUEvidence Bytes32 `json:"gpu_evidence"`
}

// Digest is the session's half of what REPORT_DATA binds.
func (s *Session) Digest() [32]byte {
	return labelhash.Sum256("omega/session-claims/v1", []byte(s.Version), s.NonceRoot[:], be32(s.NonceCount),
		s.Checkpoint, s.AgentsRoot[:], be32(s.AgentCount), s.GPUEvidence[:])
}

// ReportData is the REPORT_DATA that binds the digests of boot claims and
// session.
func ReportData(boot, session [32]byte) [64]byte {
	return labelhash.Sum512("omega/report-data/v1", boot[:], session[:])
}

// SessionMessage is what the attestation key signs in place of a report, for a
// verifier that has appraised the report of this boot already.
func SessionMessage(boot, session [32]byte) [64]byte {
	return labelhash.Sum512("omega/session-signature/v1", boot[:], session[:])
}

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

func be64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }
