package atls

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"omega/attest"
	"omega/attest/snp"
	"omega/attest/verifier"
	"omega/internal/dsse"
)

// PEM blocks in an image's measured trust roots that say which platforms it
// talks to.
const (
	// BlockPolicy holds the appraisal policy for peers, as JSON.
	BlockPolicy = "OMEGA PEER POLICY"
	// BlockEmulated holds the root of an emulated PSP, a DER certificate: for
	// test images, whose peers need no hardware.
	BlockEmulated = "OMEGA EMULATED PSP ROOT"
)

// releasePayload is the payload type of a signed release manifest.
const releasePayload = "application/vnd.in-toto+json"

// Bounds of what names peers.
const (
	maxReleases    = 64
	maxReleaseFile = 1 << 20
)

// Trust is what an image says of the platforms that it talks to. It names the
// keys that sign releases, never a launch digest: two images that named each
// other's could not both be built.
type Trust struct {
	Policy   *verifier.Policy
	Emulated *x509.Certificate // nil: no emulated peer is accepted
}

// ParseTrust reads the blocks out of the measured trust roots. It returns nil
// where there is no peer policy: such an image talks to no platform.
func ParseTrust(roots []byte) (*Trust, error) {
	t := &Trust{}
	for block, rest := pem.Decode(roots); block != nil; block, rest = pem.Decode(rest) {
		var err error
		switch block.Type {
		case BlockPolicy:
			if t.Policy != nil {
				return nil, errors.New("peers: two policies")
			}
			t.Policy, err = verifier.ParsePolicy(block.Bytes)
		case BlockEmulated:
			if t.Emulated != nil {
				return nil, errors.New("peers: two emulated roots")
			}
			t.Emulated, err = x509.ParseCertificate(block.Bytes)
		}
		if err != nil {
			return nil, fmt.Errorf("peers: %s: %w", block.Type, err)
		}
	}
	if t.Policy == nil {
		if t.Emulated != nil {
			return nil, errors.New("peers: an emulated root without a policy")
		}
		return nil, nil
	}
	if len(t.Policy.ManifestKeys) == 0 {
		return nil, errors.New("peers: the policy names no manifest_keys, so it accepts no release")
	}
	return t, nil
}

// Appraiser accepts peers that run one of the releases: manifests in DSSE
// envelopes, each signed by a key that the policy names. The envelopes may come
// from anywhere. What is wrong with those that are left out stands in skipped.
func (t *Trust) Appraiser(releases [][]byte) (a *Appraiser, skipped []error, err error) {
	roots, err := snp.AMDRoots()
	if err != nil {
		return nil, nil, err
	}
	a = &Appraiser{Params: verifier.Params{AMDRoots: roots, EmulatedRoot: t.Emulated, Policy: t.Policy}, Releases: []*attest.Manifest{}}
	for i, b := range releases {
		m, err := t.release(b)
		if err == nil && len(a.Releases) == maxReleases {
			err = fmt.Errorf("more than %d", maxReleases)
		}
		if err != nil {
			skipped = append(skipped, fmt.Errorf("release %d: %w", i, err))
			continue
		}
		a.Releases = append(a.Releases, m)
	}
	return a, skipped, nil
}

func (t *Trust) release(b []byte) (*attest.Manifest, error) {
	e, err := dsse.Parse(b, releasePayload, maxReleaseFile)
	if err != nil {
		return nil, err
	}
	var keys []dsse.Key
	for _, der := range t.Policy.ManifestKeys {
		k, err := dsse.ParseKey(der)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	if len(e.Signers(keys)) == 0 {
		return nil, fmt.Errorf("%w: the manifest is not signed by a key that the peer policy names", attest.ErrSignature)
	}
	return attest.ParseManifest(e.Payload)
}

// params are those for a peer with that report: of several releases, the one
// that it runs. The choice proves nothing; the appraisal does.
func (a *Appraiser) params(rawReport []byte) (verifier.Params, error) {
	p := a.Params
	if a.Releases == nil {
		return p, nil
	}
	if len(a.Releases) == 0 {
		return p, fmt.Errorf("%w: no release of peers is known here: give signed manifests in the launch config", attest.ErrCollateral)
	}
	p.Manifest = a.Releases[0]
	if r, err := snp.ParseReport(rawReport); err == nil {
		for _, m := range a.Releases {
			if m.Launch(r.Measurement) != nil {
				p.Manifest = m
			}
		}
	}
	return p, nil
}
