package verifier

import (
	"fmt"
	"time"

	"omega/attest"
)

// clockSkew is how far a platform's clock may be ahead of the Verifier's.
const clockSkew = 5 * time.Minute

// CertificateParams is what the evidence in a TLS certificate is held against.
type CertificateParams struct {
	// Params are as for an answer to a nonce, without the nonce.
	Params
	// Key is the SHA-256 of the certificate's SubjectPublicKeyInfo.
	Key [32]byte
	// MaxAge is how old the evidence may be; zero means
	// attest.CertificateMaxAge, and more is not accepted.
	MaxAge time.Duration
	// SessionFollows says that an answer to a nonce will be appraised over the
	// same connection: what only that can show is not demanded here.
	SessionFollows bool
}

// AppraiseCertificate holds the evidence in a TLS certificate against params. It
// speaks for the machine, the image and the key, and for no agent. A policy
// with demands on agents or GPU is refused, unless a session follows.
func AppraiseCertificate(c *attest.CertificateEvidence, p CertificateParams) (*attest.Result, error) {
	p.Params = p.effective()
	p.Known = nil
	e := &attest.Evidence{
		Version: attest.EvidenceVersion, Report: c.Report, Certificates: c.Certificates, Boot: c.Boot,
		Session: attest.Session{Version: attest.SessionVersion},
	}
	a := &appraisal{p: p.Params, e: e, sent: e, result: attest.Result{Verdict: attest.VerdictRefused}}
	if err := a.authenticate(); err != nil {
		a.add(FailedCheck("signature", err))
		return &a.result, err
	}
	for _, check := range a.p.Report.Check(a.verified) {
		a.add(check)
	}
	a.certificateBinding(c, &p)
	a.launch()
	a.image()
	if !p.SessionFollows {
		a.withoutSession()
	}
	a.say("freshness", "the evidence in a certificate answers no nonce: its age is by the platform's clock, which is the host's claim")
	if a.err != nil {
		return &a.result, a.err
	}
	a.result.Verdict = attest.VerdictVerified
	if a.emulated {
		a.result.Verdict = attest.VerdictEmulated
	}
	return &a.result, nil
}

// certificateBinding: the report speaks for these claims and this key, and was
// made not long ago.
func (a *appraisal) certificateBinding(c *attest.CertificateEvidence, p *CertificateParams) {
	want := attest.Bytes64(c.ReportData(p.Key))
	a.judge(want == a.report.ReportData, attest.Check{
		Name: "report_data", Expected: want.String(), Found: attest.Bytes64(a.report.ReportData).String(),
		Words: "the report binds the boot claims, the certificate's key and its time",
	}, "the report was made for another key, other claims or another time")
	a.judge(c.Boot.TLSKey == p.Key && p.Key != [32]byte{}, attest.Check{
		Name: "tls_key", Expected: attest.Bytes32(p.Key).String(), Found: c.Boot.TLSKey.String(),
		Words: "the certificate's key is held inside of this platform",
	}, "the certificate's key is not this platform's")
	limit := p.MaxAge
	if limit <= 0 || limit > attest.CertificateMaxAge {
		limit = attest.CertificateMaxAge
	}
	age := a.p.Now.Sub(time.Unix(c.NotBefore, 0))
	check := attest.Check{Name: "age", Expected: fmt.Sprintf("at most %s", limit), Found: age.Round(time.Second).String(), Words: "the evidence is not too old"}
	switch {
	case age > limit:
		a.refuse(fmt.Errorf("%w: the evidence in the certificate is %s old, more than %s: the certificate is replayed, or was not renewed",
			ErrSignature, age.Round(time.Second), limit), check)
	case age < -clockSkew:
		a.refuse(fmt.Errorf("%w: the evidence in the certificate is %s ahead of the clock here", ErrSignature, (-age).Round(time.Second)), check)
	default:
		check.Status = attest.Proven
		a.add(check)
	}
}

// withoutSession names what a certificate alone leaves open, and refuses where
// the policy wants to know it.
func (a *appraisal) withoutSession() {
	p := a.p.Policy
	if p == nil {
		p = &Policy{}
	}
	for _, words := range p.Relaxations() {
		a.say("relaxed", words)
	}
	if p.RequireBoundConfig || len(p.LaunchConfigs) > 0 {
		a.launchConfig(p)
	}
	unmet := attest.Check{Expected: "an answer to a nonce", Found: "a certificate"}
	if len(p.MustRun)+len(p.MustNotRun)+len(p.Principals) > 0 {
		unmet.Name, unmet.Words = "agents", "the appraisal policy has demands on agents, and a certificate names none"
		a.compare(false, unmet)
	} else {
		a.say("agents", "a certificate names no agents: ask for evidence with a nonce")
	}
	if a.e.Boot.GPU == attest.GPUReady || p.GPU == GPURequired {
		unmet.Name, unmet.Words = "gpu", "a certificate carries no evidence of a GPU"
		a.compare(false, unmet)
	}
	if p.Revocation.Required {
		unmet.Name, unmet.Words = "revoked", "the appraisal policy demands a revocation list, and a certificate names nothing that could be on it"
		a.compare(false, unmet)
	}
}
