package attest

import (
	"encoding/json"
	"errors"
	"fmt"

	"omega/internal/strictjson"
)

// Bounds of evidence. What passes them has the shape of evidence and nothing
// more: it is not yet appraised.
const (
	MaxEvidence     = 8 << 20
	MaxAgents       = 1024
	maxValues       = 256 << 10
	maxReport       = 4 << 10 // an SNP report is 1184 bytes (SNP ABI, table 23)
	maxCertificates = 64 << 10
	maxCheckpoint   = 16 << 10
	maxComponents   = 64
	maxSignatures   = 8
	maxStatement    = 4 << 10
	maxKey          = 256
	maxSignature    = 256
	maxPath         = 32
	maxGPUs         = 16
	maxGPUFile      = 64 << 10
	maxText         = 256
)

// ParseEvidence reads evidence from JSON: no unknown fields, no duplicate keys,
// no trailing bytes, everything bounded.
func ParseEvidence(b []byte) (*Evidence, error) {
	var e Evidence
	if err := strictjson.Decode(b, &e, strictjson.Limits{MaxBytes: MaxEvidence, MaxValues: maxValues}); err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	if err := e.Validate(); err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	return &e, nil
}

// Marshal writes evidence as JSON. No digest covers the JSON: what is hashed
// are the fields.
func (e *Evidence) Marshal() ([]byte, error) {
	if err := e.Validate(); err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	b, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	if len(b) > MaxEvidence {
		return nil, fmt.Errorf("evidence: %d bytes, limit %d", len(b), MaxEvidence)
	}
	return b, nil
}

// Validate refuses formats of other versions, forms that are none, and sizes
// beyond the bounds.
func (e *Evidence) Validate() error {
	switch {
	case e.Version != EvidenceVersion:
		return fmt.Errorf("version %.40q, want %q", e.Version, EvidenceVersion)
	case e.Session.Version != SessionVersion:
		return fmt.Errorf("session version %.40q, want %q", e.Session.Version, SessionVersion)
	case len(e.Session.Checkpoint) > maxCheckpoint:
		return fmt.Errorf("checkpoint of %d bytes", len(e.Session.Checkpoint))
	case len(e.Agents) > MaxAgents:
		return fmt.Errorf("%d agents", len(e.Agents))
	case len(e.Nonce.Path) > maxPath || len(e.AgentPath) > maxPath:
		return errors.New("inclusion proof that is too long")
	}
	if err := e.checkPlatform(); err != nil {
		return err
	}
	if err := checkGPUs(e.GPU, e.SessionGPU); err != nil {
		return err
	}
	for i := range e.Agents {
		if err := e.Agents[i].check(); err != nil {
			return fmt.Errorf("agent %d: %w", i, err)
		}
	}
	return nil
}

// checkPlatform demands a report with the boot claims, or a signature with
// their digest, and nothing of the other.
func (e *Evidence) checkPlatform() error {
	if e.Remembered() {
		if len(e.Report) > 0 || len(e.Certificates) > 0 || e.Boot != (BootClaims{}) || len(e.GPU) > 0 {
			return errors.New("a report and the digest of a known platform")
		}
		if len(e.Signature) != 64 { // Ed25519 (RFC 8032 section 5.1.6)
			return fmt.Errorf("signature of %d bytes", len(e.Signature))
		}
		return nil
	}
	switch {
	case len(e.Signature) > 0:
		return errors.New("a signature without the digest of a known platform")
	case e.Boot.Version != BootVersion:
		return fmt.Errorf("boot claims version %.40q, want %q", e.Boot.Version, BootVersion)
	case len(e.Report) == 0 || len(e.Report) > maxReport:
		return fmt.Errorf("report of %d bytes", len(e.Report))
	case len(e.Certificates) > maxCertificates:
		return fmt.Errorf("certificates of %d bytes", len(e.Certificates))
	}
	return e.Boot.Validate()
}

// Validate refuses texts that are too long or unfit to be shown.
func (c *BootClaims) Validate() error {
	if err := shortText(c.LogOrigin, c.Profile, c.GPU); err != nil {
		return fmt.Errorf("boot claims: %w", err)
	}
	return nil
}

func checkGPUs(lists ...[]GPUEvidence) error {
	for _, all := range lists {
		if len(all) > maxGPUs {
			return fmt.Errorf("evidence of %d GPUs", len(all))
		}
		for _, g := range all {
			if len(g.Report) > maxGPUFile || len(g.Chain) > maxGPUFile {
				return errors.New("GPU evidence that is too large")
			}
		}
	}
	return nil
}

// check demands one of an agent's forms.
func (a *Agent) check() error {
	if !a.Hidden.IsZero() {
		if !a.Details.IsZero() || a.Instance != "" || a.State != "" || a.Name != "" || a.Bundle != (Bytes32{}) ||
			a.Salt != (Bytes16{}) || !a.Identity.IsZero() || len(a.Components) > 0 {
			return errors.New("hidden, and more")
		}
		return nil
	}
	if len(a.Components) > maxComponents {
		return fmt.Errorf("%d components", len(a.Components))
	}
	for i := range a.Components {
		if err := a.Components[i].Validate(); err != nil {
			return fmt.Errorf("component %d: %w", i, err)
		}
	}
	if !a.Details.IsZero() {
		if a.Instance != "" || a.State != "" || a.Name != "" || a.Bundle != (Bytes32{}) || a.Salt != (Bytes16{}) {
			return errors.New("details, and a commitment to them")
		}
		return nil
	}
	switch a.State {
	case AgentAdmitted, AgentRunning, AgentExited, AgentFailed, AgentStopped:
	default:
		return fmt.Errorf("state %.40q is not known", a.State)
	}
	return shortText(a.Instance, a.Name)
}

// Validate demands one of a component's forms, within the bounds.
func (c *Component) Validate() error {
	empty := c.Kind == "" && c.Name == "" && c.Digest.IsZero() && c.Role == "" && c.Principal == "" && len(c.Signatures) == 0
	switch {
	case !c.Hidden.IsZero() && (!empty || !c.Known.IsZero() || c.Salt != (Bytes16{})):
		return errors.New("hidden, and more")
	case !c.Known.IsZero() && !empty:
		return errors.New("known, and more")
	case c.Shown() && c.Kind == "":
		return errors.New("no kind")
	case len(c.Signatures) > maxSignatures:
		return fmt.Errorf("%d signatures", len(c.Signatures))
	}
	for _, s := range c.Signatures {
		if len(s.Key) > maxKey || len(s.Payload) > maxStatement || len(s.Sig) > maxSignature {
			return errors.New("signature that is too long")
		}
	}
	return shortText(c.Kind, c.Name, c.Role, c.Principal)
}

// shortText refuses what a terminal or a report should never be shown: these
// texts come from the platform that is being appraised.
func shortText(texts ...string) error {
	for _, s := range texts {
		if len(s) > maxText {
			return fmt.Errorf("text of %d bytes", len(s))
		}
		for _, r := range s {
			if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
				return errors.New("text with control characters")
			}
		}
	}
	return nil
}
