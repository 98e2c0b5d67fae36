package images

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"runtime"
	"slices"

	"omega/internal/lock"
	"omega/internal/strictjson"
)

// The names in a manifest: in-toto Statement v1 and our predicate.
const (
	statementType = "https://in-toto.io/Statement/v1"
	predicateType = "https://omega.invalid/release/v1"
)

// A Launch names one way to start the image and the launch digest it gives.
type Launch struct {
	VCPUs         int
	CPU           string
	GuestFeatures uint64
	Digest        [48]byte
}

// A PCR is the value that one register of a TPM will have.
type PCR struct {
	Boot  string `json:"boot"` // disk or direct
	Bank  string `json:"bank"` // sha256 or sha384
	PCR   int    `json:"pcr"`
	Value string `json:"value"` // in hex
}

// Values are what a manifest says beyond the artifacts: they are computed by
// others, from the artifacts.
type Values struct {
	PolicyDigest [32]byte
	Launches     []Launch
	PCRs         []PCR
}

type statement struct {
	Type          string    `json:"_type"`
	Subject       []subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     predicate `json:"predicate"`
}

type subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

type predicate struct {
	Profile       string            `json:"profile"`
	SVN           uint32            `json:"svn"`
	Expires       string            `json:"expires"`
	PolicyDigest  string            `json:"policy_digest"`
	Cmdline       string            `json:"cmdline"`
	LaunchDigests []launchDigest    `json:"launch_digests"`
	PCRs          []PCR             `json:"pcrs"`
	SBOM          map[string]string `json:"sbom"` // SHA-256 by format
	Revision      revision          `json:"revision"`
	Go            string            `json:"go"`
	Source        map[string]string `json:"source"` // the lock file's entries and their SHA-256
	Inputs        Inputs            `json:"inputs"`
}

type revision struct {
	GitTree       string `json:"git_tree"`
	GitTreeSHA256 string `json:"git_tree_sha256"`
}

type launchDigest struct {
	OVMF          string `json:"ovmf"`
	VCPUs         int    `json:"vcpus"`
	CPU           string `json:"cpu"`
	GuestFeatures string `json:"guest_features"`
	Digest        string `json:"digest"`
}

// WriteManifest states what a was built as. The bytes are canonical JSON with
// one line feed at the end, and equal for everyone who builds the same thing.
func WriteManifest(a *Artifacts, v Values) error {
	p, err := profileNamed(a.Profile)
	if err != nil {
		return err
	}
	ovmf := a.Digests["ovmf"]
	s := statement{
		Type:          statementType,
		PredicateType: predicateType,
		Predicate: predicate{
			Profile: p.name, SVN: p.svn, Expires: p.expires, Cmdline: a.Arguments,
			PolicyDigest: hex.EncodeToString(v.PolicyDigest[:]),
			PCRs:         v.PCRs, SBOM: a.sbomDigests(),
			Revision: revision{a.Revision.GitTree, a.Revision.GitTreeSHA256},
			Go:       runtime.Version(), Inputs: a.Inputs,
		},
	}
	if s.Predicate.Source, err = pinned(imageEntries...); err != nil {
		return err
	}
	for name, d := range a.Digests {
		s.Subject = append(s.Subject, subject{name, map[string]string{"sha256": hex.EncodeToString(d[:])}})
	}
	slices.SortFunc(s.Subject, func(x, y subject) int { return cmp.Compare(x.Name, y.Name) })
	for _, l := range v.Launches {
		s.Predicate.LaunchDigests = append(s.Predicate.LaunchDigests, launchDigest{
			OVMF: hex.EncodeToString(ovmf[:]), VCPUs: l.VCPUs, CPU: l.CPU,
			GuestFeatures: fmt.Sprintf("%#x", l.GuestFeatures), Digest: hex.EncodeToString(l.Digest[:]),
		})
	}
	b, err := strictjson.Canonical(s)
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	if err := writeFile(a.Manifest, append(b, '\n')); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	return nil
}

// imageEntries are the lock file's entries that become part of an image.
var imageEntries = []string{kernelSource, "ovmf-amdsev", "systemd-stub", "ca-certificates"}

// sbomDigests are the digests of the lists of what is inside, by their format.
func (a *Artifacts) sbomDigests() map[string]string {
	out := map[string]string{}
	for _, f := range []string{"spdx", "cyclonedx"} {
		if d, ok := a.Digests["sbom."+f]; ok {
			out[f] = hex.EncodeToString(d[:])
		}
	}
	return out
}

// pinned returns the digests that the lock file has for names.
func pinned(names ...string) (map[string]string, error) {
	f, err := lock.Parse(lockFile)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, name := range names {
		e, err := f.Entry(name)
		if err != nil {
			return nil, err
		}
		out[name] = e.SHA256.String()
	}
	return out, nil
}
