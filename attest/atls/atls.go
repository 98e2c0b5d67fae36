// Package atls is attested TLS. VerifyConnection is for anybody's tls.Config: it
// appraises the evidence that a platform's certificate carries. Exchange is for
// two platforms: over a connection that both verified so, each shows evidence
// made for this very connection, and appraises the other's by its own policy.
//
// It opens no connections and keeps no keys.
package atls

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"omega/attest"
	"omega/attest/cmw"
	"omega/attest/eat"
	"omega/attest/verifier"
)

// ErrTLS is the refusal of a connection for its form: not TLS 1.3, resumed, or
// without exactly one certificate. It is an attest.ErrSignature.
var ErrTLS = fmt.Errorf("%w: the TLS connection", attest.ErrSignature)

// An Appraiser holds a peer against one's own appraisal policy.
type Appraiser struct {
	// Params are those of the verifier, but for nonce, key and time.
	Params verifier.Params
	// Releases, if not nil, are the releases that peers may run, in place of
	// Params.Manifest.
	Releases []*attest.Manifest
	// MaxAge is how old the evidence in a certificate may be; zero means
	// attest.CertificateMaxAge.
	MaxAge time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

func (a *Appraiser) now() time.Time {
	if a.Now == nil {
		return time.Now()
	}
	return a.Now()
}

// VerifyConnection is for tls.Config.VerifyConnection, beside
// InsecureSkipVerify: no name or authority vouches for a platform, its evidence
// does. Every error is one of the attest package's classes.
func (a *Appraiser) VerifyConnection(s tls.ConnectionState) error {
	_, err := a.Connection(s)
	return err
}

// Connection is VerifyConnection with the outcome, also where there is an error.
func (a *Appraiser) Connection(s tls.ConnectionState) (*attest.Result, error) {
	return a.connection(s, false)
}

func (a *Appraiser) connection(s tls.ConnectionState, sessionFollows bool) (*attest.Result, error) {
	refused := &attest.Result{Verdict: attest.VerdictRefused}
	leaf, err := leafOf(s)
	if err != nil {
		return refused, err
	}
	c, err := evidenceOf(leaf)
	if err != nil {
		return refused, err
	}
	now := a.now()
	if now.After(leaf.NotAfter) { // the start is not checked: the evidence's age is
		return refused, fmt.Errorf("%w: the certificate expired on %s", attest.ErrSignature, leaf.NotAfter.Format(time.RFC3339))
	}
	params, err := a.params(c.Report)
	if err != nil {
		return refused, err
	}
	p := verifier.CertificateParams{Params: params, Key: keyOf(leaf), MaxAge: a.MaxAge, SessionFollows: sessionFollows}
	p.Now = now
	return verifier.AppraiseCertificate(c, p)
}

// leafOf is the peer's certificate on a connection that is fit to carry one.
func leafOf(s tls.ConnectionState) (*x509.Certificate, error) {
	switch {
	case s.Version != tls.VersionTLS13:
		return nil, fmt.Errorf("%w is %s, want TLS 1.3", ErrTLS, tls.VersionName(s.Version))
	case s.DidResume:
		return nil, fmt.Errorf("%w was resumed: its certificate was shown to an earlier one", ErrTLS)
	case len(s.PeerCertificates) != 1:
		return nil, fmt.Errorf("%w brings %d certificates, want one", ErrTLS, len(s.PeerCertificates))
	}
	return s.PeerCertificates[0], nil
}

// evidenceOf is the evidence that a certificate carries.
func evidenceOf(leaf *x509.Certificate) (*attest.CertificateEvidence, error) {
	record, err := cmw.FromCertificate(leaf)
	if errors.Is(err, cmw.ErrAbsent) {
		return nil, fmt.Errorf("%w: %w", attest.ErrMismatch, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", attest.ErrSignature, err)
	}
	if record.Type != eat.CertificateMediaType || record.Kind != cmw.Evidence {
		return nil, fmt.Errorf("%w: the certificate carries %.120q, want evidence as %s", attest.ErrMismatch, record.Type, eat.CertificateMediaType)
	}
	c, err := eat.ParseCertificate(record.Value)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", attest.ErrSignature, err)
	}
	return c, nil
}

// keyOf is the SHA-256 of the certificate's SubjectPublicKeyInfo.
func keyOf(c *x509.Certificate) [32]byte { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }
