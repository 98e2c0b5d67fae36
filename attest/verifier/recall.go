package verifier

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"time"

	"omega/attest"
	"omega/attest/snp"
	"omega/internal/labelhash"
)

// DefaultMaxAge is how long an appraisal is leaned on where the policy does not
// say.
const DefaultMaxAge = 24 * time.Hour

// Digest stands for everything that an appraisal is held against but the
// question itself: what is remembered under one is worth nothing under another.
func (p Params) Digest() (attest.Bytes32, error) {
	if !p.digest.IsZero() {
		return p.digest, nil
	}
	p = p.effective()
	parts := [][]byte{fmt.Appendf(nil, "%d %t %t", p.MinSVN, p.AllowDebugProfile, p.AllowDevProfile)}
	for _, v := range []any{p.Manifest, p.Report, p.Policy, p.GPU} {
		b, err := json.Marshal(v)
		if err != nil {
			return attest.Bytes32{}, fmt.Errorf("appraisal policy: %w", err)
		}
		parts = append(parts, b)
	}
	for _, r := range p.AMDRoots {
		parts = append(parts, r.ARK.Raw)
	}
	parts = append(parts, nil)
	if p.EmulatedRoot != nil {
		parts = append(parts, p.EmulatedRoot.Raw)
	}
	return labelhash.Sum256("omega/appraisal/v1", parts...), nil
}

// Prepare computes the digest once for many appraisals. After it the policy and
// what belongs to it must stay as they are.
func (p *Params) Prepare() (err error) {
	p.digest = attest.Bytes32{}
	p.digest, err = p.Digest()
	return err
}

// maxAge is how long this appraisal may be leaned on.
func (p Params) maxAge() time.Duration {
	if p.Policy != nil && p.Policy.MaxAge > 0 {
		return p.Policy.MaxAge
	}
	return DefaultMaxAge
}

// platform is what a report that was appraised leaves behind.
func (p Params) platform(e *attest.Evidence, verdict string) (*Known, error) {
	digest, err := p.Digest()
	if err != nil {
		return nil, err
	}
	r, err := snp.ParseReport(e.Report)
	if err != nil {
		return nil, err
	}
	return &Known{
		Policy: digest, Boot: e.Boot, Verdict: verdict, Signature: fmt.Sprintf("version %d, %s", r.Version, r.SigningKey),
		Measurement: r.Measurement, HostData: r.HostData, Expires: p.Now.Add(p.maxAge()).UTC().Truncate(time.Second),
	}, nil
}

// recall authenticates evidence by the attestation key of a platform whose
// report was appraised before, by the same policy, and not too long ago.
func (a *appraisal) recall() error {
	k := a.p.Known
	if k == nil || a.sent.Platform != attest.Bytes32(k.Boot.Digest()) {
		known := "no platform that is remembered"
		if k != nil {
			known = attest.Bytes32(k.Boot.Digest()).String()
		}
		return refusal(ErrSignature, "the evidence leans on an appraisal of a platform, which is not remembered here", a.sent.Platform, known)
	}
	digest, err := a.p.Digest()
	if err != nil {
		return err
	}
	if k.Policy != digest {
		return refusal(ErrMismatch, "the platform was appraised by another appraisal policy", k.Policy, digest)
	}
	if !a.p.Now.Before(k.Expires) {
		return refusal(ErrSignature, "what is remembered of the platform expired", a.p.Now.UTC().Format(time.RFC3339), "a time before "+k.Expires.UTC().Format(time.RFC3339))
	}
	if k.Verdict == attest.VerdictEmulated && a.p.EmulatedRoot == nil {
		return ErrEmulated
	}
	message := attest.SessionMessage(k.Boot.Digest(), a.sent.Session.Digest())
	if !ed25519.Verify(k.Boot.AttestationKey[:], message[:], a.sent.Signature) {
		return refusal(ErrSignature, "the session is not signed by the attestation key of the platform that is remembered",
			"a signature by another key, or over other bytes", "one by "+k.Boot.AttestationKey.String())
	}
	a.emulated, a.hostData = k.Verdict == attest.VerdictEmulated, k.HostData
	a.add(attest.Check{Name: "signature", Status: attest.Proven, Found: k.Signature,
		Words: "the session is signed by the attestation key of a platform whose report you appraised; it is asked for again at " + k.Expires.UTC().Format(time.RFC3339)})
	return nil
}
