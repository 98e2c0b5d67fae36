package attest

import (
	"omega/internal/merkle"
)

// Evidence is what an attester hands over for one nonce. It speaks for itself
// by a report, or, to a verifier that has appraised this boot's report, by the
// attestation key alone.
type Evidence struct {
	Version string `json:"version"`
	// Report is the raw SNP attestation report.
	Report []byte `json:"report,omitempty"`
	// Certificates is AMD's certificate table (GHCB 2.0, SNP extended guest
	// request); it may be empty.
	Certificates []byte     `json:"certificates,omitempty"`
	Boot         BootClaims `json:"boot,omitzero"`
	// Platform is the digest of the boot claims that the verifier named as
	// known, and Signature the attestation key's over the session: they stand
	// in place of the three above.
	Platform  Bytes32    `json:"platform,omitzero"`
	Signature []byte     `json:"signature,omitempty"`
	Session   Session    `json:"session"`
	Nonce     NonceProof `json:"nonce"`
	// Agents are all of them, or, with AgentPath, one.
	Agents []Agent `json:"agents" most:"1024"`
	// AgentPath is the inclusion proof of the only agent shown, below the
	// session's agents root.
	AgentPath []Bytes32 `json:"agent_path,omitempty" most:"32"`
	// GPU is the GPUs' evidence of this boot, and SessionGPU what was made for
	// these nonces.
	GPU        []GPUEvidence `json:"gpu,omitempty" most:"16"`
	SessionGPU []GPUEvidence `json:"session_gpu,omitempty" most:"16"`
}

// Remembered reports whether the evidence leans on an earlier appraisal of the
// platform.
func (e *Evidence) Remembered() bool { return !e.Platform.IsZero() }

// Partial reports whether the evidence shows one agent out of a larger set.
func (e *Evidence) Partial() bool { return len(e.Agents) == 1 && e.Session.AgentCount > 1 }

// Complete reports whether the agents shown or hidden are those that the
// session statement names: all of them, or one with its path.
func (e *Evidence) Complete() bool {
	leaves := make([]Bytes32, len(e.Agents))
	for i := range e.Agents {
		leaves[i] = e.Agents[i].Leaf()
	}
	return e.CompleteOf(leaves)
}

// CompleteOf is Complete for who has the agents' leaves already.
func (e *Evidence) CompleteOf(leaves []Bytes32) bool {
	s := &e.Session
	if e.Partial() {
		return s.AgentCount <= MaxAgents &&
			merkle.Verify(merkle.Hash(s.AgentsRoot), merkle.Hash(leaves[0]), int(e.Agents[0].Index), int(s.AgentCount), toHashes(e.AgentPath))
	}
	if len(e.AgentPath) > 0 || int64(s.AgentCount) != int64(len(e.Agents)) || s.AgentsRoot != Bytes32(RootOfCommitments(leaves)) {
		return false
	}
	for i := range e.Agents {
		if int64(e.Agents[i].Index) != int64(i) {
			return false
		}
	}
	return true
}
