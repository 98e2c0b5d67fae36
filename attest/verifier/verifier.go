// Package verifier appraises evidence: it says, check by check and in words,
// what stands behind a platform's claims and what does not. It is strict by
// default, fetches nothing, and knows no time but the one it is given.
package verifier

import (
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"omega/attest"
	"omega/attest/snp"
)

// Classes of refusal; every error of Appraise is one of them.
var (
	ErrSignature  = attest.ErrSignature
	ErrCollateral = attest.ErrCollateral
	ErrMismatch   = attest.ErrMismatch
)

// ErrEmulated is the refusal of an emulated report whose root was not named; it
// is an ErrSignature.
var ErrEmulated = fmt.Errorf("%w: the report comes from an emulated PSP, not from AMD's hardware", ErrSignature)

// debugProfile is the image profile with a shell inside.
const debugProfile = "debug"

// devProfile is what `omega dev` claims to be, which is no image at all.
const devProfile = "dev"

// Params is what evidence is held against.
type Params struct {
	// Nonce is the one that the Verifier made for this evidence.
	Nonce [32]byte
	// TLSKey is the SHA-256 of the SubjectPublicKeyInfo of the connection that
	// the evidence came over; nil where there was none.
	TLSKey *[32]byte
	// Manifest holds the release's reference values. It must not come from the
	// platform that is appraised.
	Manifest *attest.Manifest
	// AMDRoots are the hardware's roots, as snp.AMDRoots has them.
	AMDRoots []snp.Root
	// EmulatedRoot, if given, accepts emulated reports under it. The verdict is
	// then emulated and never verified.
	EmulatedRoot *x509.Certificate
	Now          time.Time
	// Report is the appraisal policy for the report; its zero value passes nothing.
	Report snp.Policy
	// MinSVN is the lowest SVN of a release that is accepted.
	MinSVN uint32
	// AllowDebugProfile accepts images with a shell inside.
	AllowDebugProfile bool
	// AllowDevProfile accepts what no image is behind: for who runs it himself.
	AllowDevProfile bool
	// Policy, if given, takes the place of Report and AllowDebugProfile, raises
	// MinSVN, and adds its demands.
	Policy *Policy
	// GPU is what GPU evidence is held against; nil refuses platforms with one.
	GPU *GPU
	// Known, if given, is the platform that the evidence may lean on.
	Known *Known
	// Revoked, if given, is a revocation list whose signatures are verified.
	Revoked *attest.Revocations
	// CRL, if given, is AMD's list of revoked certificates.
	CRL *snp.CRL

	digest   attest.Bytes32                // set by Prepare
	gpuNonce func(nonce [32]byte) [32]byte // set by tests, for recorded evidence
}

// appraisal is one Appraise on its way.
type appraisal struct {
	p        Params
	e        *attest.Evidence // with what is known filled in; the salts are in sent
	sent     *attest.Evidence // as it came
	report   *snp.Report      // nil where the platform is known
	verified *snp.Verified
	emulated bool
	hostData attest.Bytes32
	ids      ids
	partIDs  [][]attest.Bytes32 // of each agent's components
	voucher  attest.Voucher
	vouched  map[vouching]error
	good     goodParts
	result   attest.Result
	err      error // the first refusal
}

// Appraise holds evidence against params. The result is complete also where
// there is an error, unless the report's signature is not valid: nothing else
// means anything then.
func Appraise(e *attest.Evidence, p Params) (*attest.Result, error) {
	p = p.effective()
	a := &appraisal{p: p, sent: e, ids: ids{}, vouched: map[vouching]error{}, result: attest.Result{Verdict: attest.VerdictRefused}}
	a.e, a.partIDs = p.Known.fill(e, filling{seen: a.ids, unsalted: true})
	var ahead sync.WaitGroup
	ahead.Go(func() { a.voucher.Ahead(a.ids.parts()) }) // agents asks for them
	err := a.authenticate()
	if ahead.Wait(); err != nil {
		a.add(FailedCheck("signature", err))
		return &a.result, err
	}
	if a.report != nil {
		for _, c := range a.p.Report.Check(a.verified) {
			a.add(c)
		}
	}
	a.binding()
	a.launch()
	a.image()
	a.agents()
	a.log()
	a.gpu()
	a.revoked()
	a.demands()
	a.notProven()
	if a.err != nil {
		return &a.result, a.err
	}
	a.result.Verdict = attest.VerdictVerified
	if a.emulated {
		a.result.Verdict = attest.VerdictEmulated
	}
	return &a.result, nil
}

// effective is p with what its policy says.
func (p Params) effective() Params {
	if p.Policy != nil {
		p.Report, p.AllowDebugProfile = p.Policy.Report, p.Policy.AllowDebugProfile
		p.MinSVN = max(p.MinSVN, p.Policy.MinSVN)
	}
	return p
}

// add keeps a check; a failed one makes the appraisal a refusal.
func (a *appraisal) add(c attest.Check) {
	a.result.Checks = append(a.result.Checks, c)
	if c.Status == attest.Failed && a.err == nil {
		a.err = fmt.Errorf("%w: %s: found %s, expected %s (%s)", ErrMismatch, c.Name, orNone(c.Found), orNone(c.Expected), c.Words)
	}
}

func (a *appraisal) compare(ok bool, c attest.Check) { a.add(attest.Compare(ok, c)) }

// judge is compare with words of its own for what is not so.
func (a *appraisal) judge(ok bool, c attest.Check, otherwise string) {
	if !ok {
		c.Words = otherwise
	}
	a.compare(ok, c)
}

// refuse adds a failed check whose refusal is of the error's class.
func (a *appraisal) refuse(err error, c attest.Check) {
	f := FailedCheck(c.Name, err)
	if f.Expected == "" { // the check says it better, or nothing else does
		f.Expected, f.Found = c.Expected, c.Found
	}
	c = f
	if a.err == nil {
		a.err = fmt.Errorf("%w (%s)", err, c.Name)
	}
	a.add(c)
}

func (a *appraisal) say(name, words string) {
	a.add(attest.Check{Name: name, Status: attest.NotProven, Words: words})
}

// authenticate finds out who speaks: the report's signer, or the attestation
// key of a platform that is known.
func (a *appraisal) authenticate() error {
	if a.p.Manifest == nil || a.p.Now.IsZero() {
		return errors.New("appraisal without a manifest or a time")
	}
	if err := a.sent.Validate(); err != nil {
		return Malformed(ErrMismatch, "evidence", err)
	}
	if a.sent.Remembered() {
		return a.recall()
	}
	report, err := snp.ParseReport(a.e.Report)
	if err != nil {
		return Malformed(ErrSignature, "report", err)
	}
	chain, err := a.chain(report.SigningKey)
	if err != nil {
		return err
	}
	roots, err := a.roots(report)
	if err != nil {
		return err
	}
	if !a.emulated { // an emulated PSP has a root of its own, which revokes nothing
		chain.CRL = a.p.CRL
	}
	if a.verified, err = snp.Verify(a.e.Report, chain, roots, a.p.Now); err != nil {
		return err
	}
	a.report, a.hostData = a.verified.Report, a.verified.Report.HostData
	a.add(a.signed())
	if a.report.ChipID == [64]byte{} {
		a.say("chip", "the host hides which chip it is (CHIP_ID); the certificate's key is a chip's of AMD's all the same")
	}
	return nil
}

// roots are those that the report may be under. FAMILY_ID, not yet trusted,
// only chooses which are tried: a report under the other kind of root fails
// there, so that an emulated PSP can never pass for AMD's or the reverse.
func (a *appraisal) roots(report *snp.Report) ([]snp.Root, error) {
	if report.FamilyID != snp.EmulatedFamilyID {
		return a.p.AMDRoots, nil
	}
	a.emulated = true
	if a.p.EmulatedRoot == nil {
		return nil, ErrEmulated
	}
	for _, r := range a.p.AMDRoots {
		if r.ARK.Equal(a.p.EmulatedRoot) {
			return nil, refusal(ErrSignature, "the root given for emulated reports is AMD's", "AMD's root key", "an emulated PSP's root key")
		}
	}
	return []snp.Root{{Product: snp.Milan, ARK: a.p.EmulatedRoot}}, nil
}

// chain takes the leaf and the intermediate that came with the report; the root
// is the Verifier's own.
func (a *appraisal) chain(kind snp.SigningKey) (snp.Chain, error) {
	table, err := snp.ParseTable(a.e.Certificates)
	if err != nil {
		return snp.Chain{}, Malformed(ErrSignature, "certificate table", err)
	}
	leaf := table.VCEK
	if kind == snp.VLEK {
		leaf = table.VLEK
	}
	if len(leaf) == 0 {
		return snp.Chain{}, refusal(ErrCollateral, fmt.Sprintf("the evidence brings no %s certificate", kind), "", fmt.Sprintf("the %s certificate of the chip", kind))
	}
	var c snp.Chain
	if c.Leaf, err = snp.ParseCertificate(leaf); err != nil {
		return c, Malformed(ErrSignature, fmt.Sprintf("%s certificate", kind), err)
	}
	if len(table.ASK) > 0 {
		if c.Intermediate, err = snp.ParseCertificate(table.ASK); err != nil {
			return c, Malformed(ErrSignature, "ASK certificate", err)
		}
	}
	return c, nil
}

func (a *appraisal) signed() attest.Check {
	c := attest.Check{Name: "signature", Status: attest.Proven, Found: fmt.Sprintf("%s, version %d, %s", a.verified.Product, a.report.Version, a.report.SigningKey)}
	c.Words = "the report is signed by a chip of AMD's, under AMD's root key"
	if a.emulated {
		c.Words = "the report is signed by the emulated PSP whose root you named; no hardware stands behind it"
	}
	return c
}

func orNone(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}
