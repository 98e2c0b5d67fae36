package snp

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// CRL is AMD's list of certificates that it has revoked, of one product.
type CRL struct{ list *x509.RevocationList }

// ParseCRL reads one list in DER, as AMD serves it, or in PEM. It is not yet
// known whose it is: Verify checks that.
func ParseCRL(b []byte) (*CRL, error) {
	if len(b) == 0 || len(b) > maxCertificate {
		return nil, fmt.Errorf("revocation list of %d bytes", len(b))
	}
	if block, rest := pem.Decode(b); block != nil {
		if block.Type != "X509 CRL" || len(bytes.TrimSpace(rest)) > 0 {
			return nil, fmt.Errorf("PEM: want one X509 CRL, found %.20q", block.Type)
		}
		b = block.Bytes
	}
	list, err := x509.ParseRevocationList(b)
	if err != nil {
		return nil, fmt.Errorf("revocation list: %w", err)
	}
	if len(list.Raw) != len(b) {
		return nil, errors.New("bytes behind a revocation list")
	}
	return &CRL{list}, nil
}

// Valid reports whether the list is ark's and not outdated at now.
func (c *CRL) Valid(ark *x509.Certificate, now time.Time) error {
	l := c.list
	switch {
	case !bytes.Equal(l.RawIssuer, ark.RawSubject):
		return fmt.Errorf("revocation list of %q, want %q", l.Issuer.CommonName, ark.Subject.CommonName)
	// RSA-PSS with SHA-384 is all that AMD uses (publication 57230).
	case l.SignatureAlgorithm != x509.SHA384WithRSAPSS:
		return fmt.Errorf("revocation list: signature algorithm %s", l.SignatureAlgorithm)
	case l.NextUpdate.IsZero():
		return errors.New("revocation list that never ends")
	case now.Before(l.ThisUpdate) || now.After(l.NextUpdate):
		return fmt.Errorf("revocation list is valid from %s to %s, not at %s: get a newer one", l.ThisUpdate.Format(time.DateOnly),
			l.NextUpdate.Format(time.DateOnly), now.UTC().Format(time.RFC3339))
	}
	for _, e := range l.Extensions {
		if e.Critical { // a list of a part only, or of other issuers: RFC 5280 section 5.2
			return fmt.Errorf("revocation list: critical extension %s is not known", e.Id)
		}
	}
	if err := ark.CheckSignature(l.SignatureAlgorithm, l.RawTBSRevocationList, l.Signature); err != nil {
		return fmt.Errorf("revocation list: %w", err)
	}
	return nil
}

// check refuses certificates that the list names. The list's serials are those
// of the ARK's own certificates, so one of a leaf counts only where it says
// something: AMD gives every VCEK and VLEK the serial 0.
func (c *CRL) check(ark, middle, leaf *x509.Certificate, now time.Time) error {
	if err := c.Valid(ark, now); err != nil {
		return err
	}
	for _, e := range c.list.RevokedCertificateEntries {
		for _, cert := range []*x509.Certificate{middle, leaf} {
			if e.SerialNumber.Cmp(cert.SerialNumber) != 0 || cert == leaf && cert.SerialNumber.Sign() == 0 {
				continue
			}
			return fmt.Errorf("certificate of %q, serial %#x, was revoked by AMD on %s: keys below it prove nothing any more",
				cert.Subject.CommonName, cert.SerialNumber, e.RevocationTime.Format(time.DateOnly))
		}
	}
	return nil
}

// Words says which list it is.
func (c *CRL) Words() string {
	return fmt.Sprintf("list of %s from %s, good until %s, with %d entries", c.list.Issuer.CommonName,
		c.list.ThisUpdate.Format(time.DateOnly), c.list.NextUpdate.Format(time.DateOnly), len(c.list.RevokedCertificateEntries))
}

// Expires is when the list is outdated.
func (c *CRL) Expires() time.Time { return c.list.NextUpdate }
