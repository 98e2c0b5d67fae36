package attest

import (
	"errors"
	"fmt"

	"omega/internal/strictjson"
)

// Bounds of evidence. What passes them has the shape of evidence and nothing
// more: it is not yet appraised.
const (
	MaxEvidence     = 1 << 20
	maxReport       = 4 << 10 // an SNP report is 1184 bytes (SNP ABI, table 23)
	maxCertificates = 64 << 10
	maxCheckpoint   = 16 << 10
	maxAgents       = 1024
	maxComponents   = 64
	maxText         = 256
)

// ParseEvidence reads evidence from JSON: no unknown fields, no duplicate keys,
// no trailing bytes, everything bounded.
func ParseEvidence(b []byte) (*Evidence, error) {
	var e Evidence
	if err := strictjson.Decode(b, &e, strictjson.Limits{MaxBytes: MaxEvidence}); err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	if err := e.Validate(); err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	return &e, nil
}

// Marshal writes evidence as canonical JSON.
func (e *Evidence) Marshal() ([]byte, error) {
	if err := e.Validate(); err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	b, err := strictjson.Canonical(e)
	if err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	if len(b) > MaxEvidence {
		return nil, fmt.Errorf("evidence: %d bytes, limit %d", len(b), MaxEvidence)
	}
	return b, nil
}

// Validate refuses formats of other versions and sizes beyond the bounds.
func (e *Evidence) Validate() error {
	switch {
	case e.Version != EvidenceVersion:
		return fmt.Errorf("version %.40q, want %q", e.Version, EvidenceVersion)
	case e.Boot.Version != BootVersion:
		return fmt.Errorf("boot claims version %.40q, want %q", e.Boot.Version, BootVersion)
	case e.Session.Version != SessionVersion:
		return fmt.Errorf("session version %.40q, want %q", e.Session.Version, SessionVersion)
	case len(e.Report) == 0 || len(e.Report) > maxReport:
		return fmt.Errorf("report of %d bytes", len(e.Report))
	case len(e.Certificates) > maxCertificates:
		return fmt.Errorf("certificates of %d bytes", len(e.Certificates))
	case len(e.Session.Checkpoint) > maxCheckpoint:
		return fmt.Errorf("checkpoint of %d bytes", len(e.Session.Checkpoint))
	case len(e.Agents) > maxAgents:
		return fmt.Errorf("%d agents", len(e.Agents))
	}
	if err := shortText(e.Boot.LogOrigin, e.Boot.Profile, e.Boot.GPU); err != nil {
		return fmt.Errorf("boot claims: %w", err)
	}
	for i := range e.Agents {
		if err := e.Agents[i].check(); err != nil {
			return fmt.Errorf("agent %d: %w", i, err)
		}
	}
	return nil
}

func (a *Agent) check() error {
	switch a.State {
	case AgentAdmitted, AgentRunning, AgentExited, AgentFailed, AgentStopped:
	default:
		return fmt.Errorf("state %.40q is not known", a.State)
	}
	if len(a.Components) > maxComponents {
		return fmt.Errorf("%d components", len(a.Components))
	}
	if err := shortText(a.Instance, a.Name); err != nil {
		return err
	}
	for _, c := range a.Components {
		if err := shortText(c.Kind, c.Name, c.Role, c.Principal, c.KeyID); err != nil {
			return fmt.Errorf("component: %w", err)
		}
	}
	return nil
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
