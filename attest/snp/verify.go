package snp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"
)

// Chain is the certificates that a report came with. Intermediate may be nil
// where the root knows it.
type Chain struct {
	Leaf, Intermediate *x509.Certificate
	// ARK, if given, must be the root's own: a chain cannot bring its root.
	ARK *x509.Certificate
	// CRL, if given, is the root's and must revoke no certificate of the chain.
	CRL *CRL
}

// Verified is a report whose signature and chain are valid.
type Verified struct {
	Report  *Report
	Product Product
	// Expires is when the first certificate of the chain expires.
	Expires time.Time
}

// NewChain takes a chain from certificates in any order, as they come together
// in one file or several. One that is not of the chain is refused.
func NewChain(certs []*x509.Certificate) (Chain, error) {
	var c Chain
	for _, cert := range certs {
		if n := cert.Subject.CommonName; n == "SEV-"+VCEK.String() || n == "SEV-"+VLEK.String() {
			if c.Leaf != nil && !c.Leaf.Equal(cert) {
				return c, refuse(PartChain, "certificates of two signing keys")
			}
			c.Leaf = cert
		}
	}
	if c.Leaf == nil {
		return c, refuse(PartChain, "no certificate of a VCEK or VLEK is among those given")
	}
	for _, cert := range certs {
		place := &c.Intermediate
		switch {
		case cert.Equal(c.Leaf):
			continue
		case bytes.Equal(cert.RawSubject, cert.RawIssuer):
			place = &c.ARK
		case !bytes.Equal(cert.RawSubject, c.Leaf.RawIssuer):
			return c, but(PartChain, "a certificate is not of this chain", fmt.Sprintf("%q", cert.Subject.CommonName), fmt.Sprintf("%q", c.Leaf.Issuer.CommonName))
		}
		if *place != nil && !(*place).Equal(cert) {
			return c, refuse(PartChain, "two certificates of %q", cert.Subject.CommonName)
		}
		*place = cert
	}
	return c, nil
}

// Verify checks a raw report against one of the roots at a point in time: the
// chain, the report's signature, and that the report and the certificate speak
// of the same chip at the same TCB. Errors are a Refusal.
func Verify(raw []byte, chain Chain, roots []Root, now time.Time) (*Verified, error) {
	report, err := ParseReport(raw)
	if err != nil {
		return nil, refusal(PartReport, err)
	}
	if chain.Leaf == nil {
		return nil, refuse(PartChain, "no %s certificate", report.SigningKey)
	}
	root, err := chain.root(roots)
	if err != nil {
		return nil, err
	}
	line, err := lineOf(root.Product)
	if err != nil {
		return nil, refusal(PartChain, err)
	}
	middle, err := chain.intermediate(root)
	if err != nil {
		return nil, err
	}
	if err := checkChain(line.product, report.SigningKey, chain.Leaf, middle, root.ARK, now); err != nil {
		return nil, err
	}
	if chain.CRL != nil {
		if err := chain.CRL.check(root.ARK, middle, chain.Leaf, now); err != nil {
			return nil, refusal(PartRevocation, err)
		}
	}
	if err := checkLeaf(report, line, chain.Leaf); err != nil {
		return nil, err
	}
	if err := checkSignature(raw, report, chain.Leaf); err != nil {
		return nil, err
	}
	expires := root.ARK.NotAfter
	for _, c := range []*x509.Certificate{middle, chain.Leaf} {
		if c.NotAfter.Before(expires) {
			expires = c.NotAfter
		}
	}
	return &Verified{Report: report, Product: line.product, Expires: expires}, nil
}

// root is the root whose key may have signed the chain: the one that was
// issued to the leaf's issuer's issuer, by name. Signatures are checked later.
func (c *Chain) root(roots []Root) (*Root, error) {
	for i := range roots {
		r := &roots[i]
		for _, m := range append([]*x509.Certificate{c.Intermediate}, r.Intermediates...) {
			if m == nil || !bytes.Equal(m.RawSubject, c.Leaf.RawIssuer) || !bytes.Equal(m.RawIssuer, r.ARK.RawSubject) {
				continue
			}
			if c.ARK != nil && !c.ARK.Equal(r.ARK) {
				return nil, but(PartChain, "the root that came with the chain is not the trusted one", fmt.Sprintf("%q", c.ARK.Subject.CommonName), fmt.Sprintf("%q, the pinned key", r.ARK.Subject.CommonName))
			}
			return r, nil
		}
	}
	return nil, refuse(PartChain, "issuer %q leads to no trusted root", c.Leaf.Issuer.CommonName)
}

func (c *Chain) intermediate(r *Root) (*x509.Certificate, error) {
	if c.Intermediate != nil {
		return c.Intermediate, nil
	}
	for _, m := range r.Intermediates {
		if bytes.Equal(m.RawSubject, c.Leaf.RawIssuer) {
			return m, nil
		}
	}
	return nil, refuse(PartChain, "no certificate of %q", c.Leaf.Issuer.CommonName)
}

// checkChain verifies ARK -> ASK or ASVK -> leaf, names included: AMD's root
// also signs keys of other products' tools, and a VLEK is no VCEK.
func checkChain(p Product, kind SigningKey, leaf, middle, ark *x509.Certificate, now time.Time) error {
	names := map[SigningKey]string{VCEK: "SEV-" + string(p), VLEK: "SEV-VLEK-" + string(p)}
	for _, c := range []struct {
		cert, parent *x509.Certificate
		name         string
	}{
		{ark, ark, "ARK-" + string(p)},
		{middle, ark, names[kind]},
		{leaf, middle, "SEV-" + kind.String()},
	} {
		if found := c.cert.Subject.CommonName; found != c.name {
			return but(PartChain, "a certificate is another's", fmt.Sprintf("%q", found), fmt.Sprintf("%q", c.name))
		}
		if now.Before(c.cert.NotBefore) || now.After(c.cert.NotAfter) {
			return but(PartExpiry, fmt.Sprintf("certificate of %q is not valid at the time", c.name), now.UTC().Format(time.RFC3339),
				fmt.Sprintf("a time from %s to %s", c.cert.NotBefore.Format(time.DateOnly), c.cert.NotAfter.Format(time.DateOnly)))
		}
		// RSA-PSS with SHA-384 is all that AMD uses (publication 57230).
		if c.cert.SignatureAlgorithm != x509.SHA384WithRSAPSS {
			return but(PartChain, fmt.Sprintf("certificate of %q: signature algorithm", c.name), c.cert.SignatureAlgorithm, x509.SHA384WithRSAPSS)
		}
		if !bytes.Equal(c.cert.RawIssuer, c.parent.RawSubject) {
			return but(PartChain, fmt.Sprintf("certificate of %q: issuer", c.name), fmt.Sprintf("%q", c.cert.Issuer.CommonName), fmt.Sprintf("%q", c.parent.Subject.CommonName))
		}
		if err := c.cert.CheckSignatureFrom(c.parent); err != nil {
			return refuse(PartChain, "certificate of %q: %v", c.name, err)
		}
	}
	return nil
}

func checkSignature(raw []byte, r *Report, leaf *x509.Certificate) error {
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() {
		return refuse(PartCertificate, "signing key is not on P-384")
	}
	sum := sha512.Sum384(raw[:SignedSize])
	if !ecdsa.Verify(key, sum[:], number(r.R), number(r.S)) {
		return refuse(PartSignature, "signature of the report is not valid under the key of the certificate")
	}
	return nil
}

// number reads a little-endian coordinate.
func number(le [coordinate]byte) *big.Int {
	be := le
	for i, j := 0, len(be)-1; i < j; i, j = i+1, j-1 {
		be[i], be[j] = be[j], be[i]
	}
	return new(big.Int).SetBytes(be[:])
}
