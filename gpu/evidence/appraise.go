package evidence

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"
)

// Evidence is what one GPU gave: binary report, PEM chain with its root.
type Evidence struct {
	Report []byte
	Chain  []byte
}

// Params are what evidence is held against. Each RIM and OCSP response must be
// sound; which of them a GPU needs, the appraisal finds out.
type Params struct {
	Nonce  [nonceSize]byte
	Roots  Roots
	Now    time.Time
	RIMs   [][]byte // XML
	OCSP   [][]byte // DER
	Policy Policy
}

// collateral is what Params carry, read once for all GPUs.
type collateral struct {
	rims []*RIM
	ocsp []*OCSP
}

// appraisal is one GPU's appraisal while it goes on.
type appraisal struct {
	p      *Params
	c      *collateral
	r      *Result
	report *Report
	certs  []*x509.Certificate
	used   []*RIM
}

// Appraise verifies the evidence of one GPU. The result is there beside an
// error, with the check that failed last.
func Appraise(e Evidence, p Params) (*Result, error) {
	r := &Result{Verdict: VerdictRefused}
	c, err := load(&p)
	if err != nil {
		return r, r.fail("collateral", err)
	}
	a := appraisal{p: &p, c: c, r: r}
	return r, a.run(e)
}

// AppraiseAll verifies the evidence of every GPU of a machine, which must be as
// many as the policy says, and no GPU twice.
func AppraiseAll(all []Evidence, p Params) ([]*Result, error) {
	if len(all) == 0 || (p.Policy.GPUs > 0 && len(all) != p.Policy.GPUs) {
		return nil, fmt.Errorf("%w: evidence of %d GPUs, want %d", ErrMismatch, len(all), p.Policy.GPUs)
	}
	c, err := load(&p)
	if err != nil {
		return nil, err
	}
	var out []*Result
	seen := map[string]bool{}
	for i, e := range all {
		a := appraisal{p: &p, c: c, r: &Result{Verdict: VerdictRefused}}
		err := a.run(e)
		out = append(out, a.r)
		if err == nil && seen[a.r.KeyDigest] {
			a.r.Verdict = VerdictRefused
			err = a.r.fail("device", fmt.Errorf("%w: device %s twice", ErrMismatch, a.r.Serial))
		}
		if err != nil {
			return out, fmt.Errorf("GPU %d: %w", i, err)
		}
		seen[a.r.KeyDigest] = true
	}
	return out, nil
}

// load reads RIMs and OCSP responses, and verifies the RIMs.
func load(p *Params) (*collateral, error) {
	c := &collateral{}
	for i, b := range p.RIMs {
		r, err := ParseRIM(b)
		if err != nil {
			return nil, fmt.Errorf("file %d: %w", i+1, err)
		}
		at, err := p.Policy.signerTime(r, p.Now)
		if err == nil {
			err = r.VerifySigner(p.Roots.RIM, at)
		}
		if err != nil {
			return nil, fmt.Errorf("file %d: %w", i+1, err)
		}
		c.rims = append(c.rims, r)
	}
	for i, b := range p.OCSP {
		o, err := ParseOCSP(b)
		if err != nil {
			return nil, fmt.Errorf("file %d: %w", i+1, err)
		}
		c.ocsp = append(c.ocsp, o)
	}
	return c, nil
}

// run makes the steps in order; the first that fails ends it.
func (a *appraisal) run(e Evidence) error {
	for _, step := range []struct {
		name string
		do   func(Evidence) error
	}{
		{"report", a.parse},
		{"chain", a.verifyChain},
		{"signature", a.verifySignature},
		{"nonce", a.verifyNonce},
		{"firmware", a.verifyFirmware},
		{"measurements", a.compareMeasurements},
		{"policy", a.holdPolicy},
		{"revocation", a.checkRevocation},
	} {
		if err := step.do(e); err != nil {
			return a.r.fail(step.name, err)
		}
	}
	a.r.Verdict = VerdictVerified
	return nil
}

func (r *Result) fail(name string, err error) error {
	r.Checks = append(r.Checks, Check{Name: name, Status: Failed, Words: err.Error()})
	return err
}

func (r *Result) prove(name, words string) {
	r.Checks = append(r.Checks, Check{Name: name, Status: Proven, Words: words})
}

func (a *appraisal) parse(e Evidence) (err error) {
	if a.report, err = ParseReport(e.Report); err != nil {
		return err
	}
	o := &a.report.Opaque
	a.r.Driver, a.r.VBIOS, a.r.Mode = o.Driver, o.VBIOS, o.Mode
	return nil
}

func (a *appraisal) verifyChain(e Evidence) (err error) {
	if a.certs, err = parseChain(e.Chain); err != nil {
		return fmt.Errorf("chain: %w: %w", ErrFormat, err)
	}
	// The leaf is of the firmware, the next of the device, and above it are an
	// authority and the root.
	if len(a.certs) < 4 {
		return fmt.Errorf("chain: %w: %d certificates", ErrChain, len(a.certs))
	}
	if err := verifyChain(a.certs, a.p.Roots.Device, a.p.Now); err != nil {
		return fmt.Errorf("chain: %w", err)
	}
	device := a.certs[1]
	key := sha256.Sum256(device.RawSubjectPublicKeyInfo)
	a.r.Device, a.r.Serial = device.Subject.CommonName, device.SerialNumber.Text(16)
	a.r.KeyDigest, a.r.Expires = hex.EncodeToString(key[:]), notAfter(a.certs)
	a.r.prove("chain", "the certificates lead to the pinned root")
	return nil
}

func (a *appraisal) verifySignature(Evidence) error {
	key, err := attestationKey(a.certs[0])
	if err == nil {
		err = a.report.verify(key)
	}
	if err == nil {
		a.r.prove("signature", "the GPU's attestation key signed the report")
	}
	return err
}

func (a *appraisal) verifyNonce(Evidence) error {
	if subtle.ConstantTimeCompare(a.report.Nonce[:], a.p.Nonce[:]) != 1 {
		return fmt.Errorf("%w: nonce %x, asked with %x", ErrMismatch, a.report.Nonce, a.p.Nonce)
	}
	a.r.prove("nonce", "the report answers this nonce")
	return nil
}

func (a *appraisal) verifyFirmware(Evidence) error {
	c, err := checkFWID(a.certs[0], a.report.Opaque.FWID)
	if err == nil {
		a.r.Checks = append(a.r.Checks, c)
	}
	return err
}

func (a *appraisal) holdPolicy(Evidence) error {
	for _, c := range a.p.Policy.check(&a.report.Opaque) {
		if c.Status == Failed {
			return fmt.Errorf("%w: %s: %s: found %q, expected %q", ErrMismatch, c.Name, c.Words, c.Found, c.Expected)
		}
		a.r.Checks = append(a.r.Checks, c)
	}
	return nil
}
