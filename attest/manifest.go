package attest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
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
	maxPCRValues      = 256
	maxInputs         = 16 << 10
	maxInputText      = 4 << 10
)

// Manifest holds a release's reference values as a Verifier sees them: an
// in-toto statement about the artifacts. It says nothing about who signed it.
type Manifest struct {
	Type          string    `json:"_type"`
	Subject       []Subject `json:"subject" most:"64"`
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
	LaunchDigests []LaunchDigest `json:"launch_digests" most:"4096"`
	// Go and Source say how to build the release again: the Go version and the
	// SHA-256 of each pinned input.
	Go     string             `json:"go"`
	Source map[string]Bytes32 `json:"source"`
	// PCRs are what a TPM holds of the image, for each way to boot it.
	PCRs []PCRValue `json:"pcrs,omitempty" most:"256"`
	// SBOM is the SHA-256 of the list of what is inside, by its format.
	SBOM map[string]Bytes32 `json:"sbom,omitempty"`
	// Revision is the source tree by its content.
	Revision *Revision `json:"revision,omitempty"`
	// Inputs are all that the image was made from, as kind:name.
	Inputs map[string]string `json:"inputs,omitempty"`
}

// PCRValue is what one register of a TPM holds.
type PCRValue struct {
	Boot  string `json:"boot"` // disk or direct
	Bank  string `json:"bank"` // sha256 or sha384
	PCR   int    `json:"pcr"`
	Value string `json:"value"` // lower-case hex
}

// Revision is a source tree as git names it by its content.
type Revision struct {
	GitTree       string  `json:"git_tree"` // SHA-1
	GitTreeSHA256 Bytes32 `json:"git_tree_sha256"`
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
	if err := p.checkOrigin(); err != nil {
		return err
	}
	return shortText(p.Profile, p.Cmdline)
}

// checkOrigin refuses values of a TPM, a source or an input that nobody could
// compare with anything.
func (r *Release) checkOrigin() error {
	if len(r.PCRs) > maxPCRValues || len(r.Inputs) > maxInputs {
		return fmt.Errorf("%d PCRs, %d inputs", len(r.PCRs), len(r.Inputs))
	}
	size := map[string]int{"sha256": 32, "sha384": 48}
	for _, p := range r.PCRs {
		value, err := hex.DecodeString(p.Value)
		if err != nil || strings.ToLower(p.Value) != p.Value || len(value) == 0 || len(value) != size[p.Bank] ||
			p.PCR < 0 || p.PCR > 23 || p.Boot != "disk" && p.Boot != "direct" {
			return fmt.Errorf("PCR %d of bank %.20q, boot %.20q is not a value", p.PCR, p.Bank, p.Boot)
		}
	}
	if r.Revision != nil {
		if name, err := hex.DecodeString(r.Revision.GitTree); err != nil || len(name) != 20 {
			return fmt.Errorf("revision %.80q is not a git tree", r.Revision.GitTree)
		}
	}
	for name, value := range r.Inputs {
		kind, rest, ok := strings.Cut(name, ":")
		if !ok || kind == "" || rest == "" || len(name) > maxInputText || len(value) > maxInputText {
			return fmt.Errorf("input %.80q is not of the form kind:name", name)
		}
	}
	return nil
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
