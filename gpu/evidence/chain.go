package evidence

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// maxChain bounds the certificates of a chain; NVIDIA's have 4 and 5.
const maxChain = 8

// Roots are the SHA-256 digests of the DER of the roots that are trusted.
type Roots struct {
	Device [sha256.Size]byte // NVIDIA Device Identity CA
	RIM    [sha256.Size]byte // NVIDIA CoRIM signing Root CA
}

// NVIDIA are the roots that NVIDIA publishes with its verifier, pinned whole.
func NVIDIA() Roots {
	return Roots{
		Device: mustDigest("102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48"),
		RIM:    mustDigest("12977b5115acb0381179279fffeb5a8c4d264971ebb32298023a465fa41df5d1"),
	}
}

func mustDigest(s string) (out [sha256.Size]byte) {
	if n, err := hex.Decode(out[:], []byte(s)); err != nil || n != len(out) {
		return [sha256.Size]byte{} // matches no certificate
	}
	return out
}

// parseChain reads PEM certificates, leaf first. Only the encoding that a writer
// makes is accepted, so that a changed byte never goes unseen.
func parseChain(b []byte) ([]*x509.Certificate, error) {
	b = bytes.TrimRight(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), "\n\x00")
	var out []*x509.Certificate
	var again []byte
	for rest := b; len(rest) > 0; {
		if len(out) == maxChain {
			return nil, fmt.Errorf("more than %d certificates", maxChain)
		}
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return nil, errors.New("not PEM certificates")
		}
		again = append(again, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	if len(out) == 0 || !bytes.Equal(bytes.TrimRight(again, "\n"), b) {
		return nil, errors.New("not plain PEM certificates")
	}
	return out, nil
}

// verifyChain checks that certs lead, in this order, from the leaf to the root
// with the pinned digest, on P-384 and SHA-384 alone, all valid at now.
func verifyChain(certs []*x509.Certificate, root [sha256.Size]byte, now time.Time) error {
	if len(certs) < 2 {
		return fmt.Errorf("%w: %d certificates", ErrChain, len(certs))
	}
	last := certs[len(certs)-1]
	if got := sha256.Sum256(last.Raw); got != root {
		return fmt.Errorf("%w: it ends at %q, SHA-256 %x", ErrChain, last.Subject.CommonName, got)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(last)
	for i, c := range certs {
		if k, ok := c.PublicKey.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P384() || c.SignatureAlgorithm != x509.ECDSAWithSHA384 {
			return fmt.Errorf("%w: %q is not ECDSA P-384 with SHA-384", ErrChain, c.Subject.CommonName)
		}
		if now.Before(c.NotBefore) || now.After(c.NotAfter) {
			return fmt.Errorf("%w: %q is valid from %s to %s, asked for %s", ErrExpired, c.Subject.CommonName,
				c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly), now.UTC().Format(time.RFC3339))
		}
		if i > 0 && i < len(certs)-1 {
			between.AddCert(c)
		}
	}
	paths, err := certs[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrChain, err)
	}
	for _, path := range paths {
		if sameChain(path, certs) {
			return nil
		}
	}
	return fmt.Errorf("%w: its certificates are out of order or not needed", ErrChain)
}

func sameChain(a, b []*x509.Certificate) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !a[i].Equal(b[i]) {
			return false
		}
	}
	return true
}

// notAfter is the first end of validity in a chain.
func notAfter(certs []*x509.Certificate) time.Time {
	end := certs[0].NotAfter
	for _, c := range certs[1:] {
		if c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end
}

// attestationKey is the key of a certificate that verifyChain has accepted.
func attestationKey(c *x509.Certificate) (*ecdsa.PublicKey, error) {
	k, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok || k.Curve != elliptic.P384() {
		return nil, fmt.Errorf("%w: key is not on P-384", ErrChain)
	}
	return k, nil
}
