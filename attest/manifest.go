package attest

import (
	"errors"
	"fmt"
	"time"

	"omega/internal/strictjson"
)

// Types of a release's manifest.json.
const (
	StatementType     = "https://in-toto.io/Statement/v1"
	ReleasePredicate  = "https://omega.invalid/release/v1"
	maxManifest       = 1 << 20
	maxLaunchDigests  = 4096
	maxSubjects       = 64
	maxGuestFeatures  = 18 // "0x" and 16 digits
	maxManifestCPULen = 64
)

// Manifest holds a release's reference values as a Verifier sees them: an
// in-toto statement about the artifacts. It says nothing about who signed it.
type Manifest struct {
	Type          string    `json:"_type"`
	Subject       []Subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     Release   `json:"predicate"`
}

// Subject is one artifact of the release.
type Subject struct {
	Name   string        `json:"name"`
	Digest SubjectDigest `json:"digest"`
}

// SubjectDigest is the digest of an artifact.
type SubjectDigest struct {
	SHA256 Bytes32 `json:"sha256"`
}

// Release is what the manifest says of its artifacts.
type Release struct {
	Profile       string         `json:"profile"`
	SVN           uint32         `json:"svn"`
	Expires       time.Time      `json:"expires"`
	PolicyDigest  Bytes32        `json:"policy_digest"`
	Cmdline       string         `json:"cmdline"`
	LaunchDigests []LaunchDigest `json:"launch_digests"`
	// Go and Source say how to build the release again: the Go version and the
	// SHA-256 of each pinned input.
	Go     string             `json:"go"`
	Source map[string]Bytes32 `json:"source"`
}

// LaunchDigest is the MEASUREMENT of one way to launch the release.
type LaunchDigest struct {
	OVMF          Bytes32 `json:"ovmf"`
	VCPUs         int     `json:"vcpus"`
	CPU           string  `json:"cpu"`
	GuestFeatures string  `json:"guest_features"`
	Digest        Bytes48 `json:"digest"`
}

// ParseManifest reads manifest.json. A field that is not known is refused: it
// may be a restriction.
func ParseManifest(b []byte) (*Manifest, error) {
	var m Manifest
	if err := strictjson.Decode(b, &m, strictjson.Limits{MaxBytes: maxManifest}); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return &m, nil
}

// check refuses a manifest that lacks a value: nothing is accepted by default.
func (m *Manifest) check() error {
	p := &m.Predicate
	switch {
	case m.Type != StatementType:
		return fmt.Errorf("type %.80q, want %q", m.Type, StatementType)
	case m.PredicateType != ReleasePredicate:
		return fmt.Errorf("predicate type %.80q, want %q", m.PredicateType, ReleasePredicate)
	case len(m.Subject) == 0 || len(m.Subject) > maxSubjects:
		return fmt.Errorf("%d artifacts", len(m.Subject))
	case p.Profile == "":
		return errors.New("no profile")
	case p.SVN == 0:
		return errors.New("no SVN")
	case p.Expires.IsZero():
		return errors.New("no expiry")
	case p.PolicyDigest.IsZero():
		return errors.New("no policy digest")
	case len(p.LaunchDigests) == 0 || len(p.LaunchDigests) > maxLaunchDigests:
		return fmt.Errorf("%d launch digests", len(p.LaunchDigests))
	}
	for i, d := range p.LaunchDigests {
		if d.Digest == (Bytes48{}) || d.VCPUs < 1 || d.CPU == "" || len(d.CPU) > maxManifestCPULen || len(d.GuestFeatures) > maxGuestFeatures {
			return fmt.Errorf("launch digest %d is not complete", i)
		}
	}
	return shortText(p.Profile, p.Cmdline)
}

// Launch is the entry whose digest is measurement, or nil.
func (m *Manifest) Launch(measurement [48]byte) *LaunchDigest {
	for i := range m.Predicate.LaunchDigests {
		if d := &m.Predicate.LaunchDigests[i]; d.Digest == measurement {
			return d
		}
	}
	return nil
}
