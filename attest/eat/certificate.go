package eat

import (
	"fmt"

	"omega/attest"
	"omega/internal/cbor"
)

// MaxCertificate bounds the token in a TLS certificate.
const MaxCertificate = 13 << 10

// certificateClaims are the claims of a certificate's token that have no
// standard claim.
type certificateClaims struct {
	Version      string            `json:"version"`
	Certificates []byte            `json:"certificates"`
	Boot         attest.BootClaims `json:"boot"`
}

// MarshalCertificate writes the evidence in a TLS certificate as a token.
func MarshalCertificate(c *attest.CertificateEvidence) ([]byte, error) {
	if c.Version != attest.CertificateVersion || c.NotBefore < 0 {
		return nil, fmt.Errorf("eat: certificate evidence of version %.40q, not before %d", c.Version, c.NotBefore)
	}
	claims, err := platformClaims(c.Report, &c.Boot, CertificateProfile)
	if err != nil {
		return nil, err
	}
	v, err := cbor.ToValue(certificateClaims{c.Version, c.Certificates, c.Boot})
	if err != nil {
		return nil, fmt.Errorf("eat: %w", err)
	}
	claims = append(claims, cbor.Pair{Key: claimNotBefore, Value: c.NotBefore}, cbor.Pair{Key: claimPrivate, Value: v})
	return seal(claims, MaxCertificate)
}

// ParseCertificate reads the token in a TLS certificate, as strictly as Parse.
func ParseCertificate(b []byte) (*attest.CertificateEvidence, error) {
	claims, err := open(b, CertificateProfile, MaxCertificate)
	if err != nil {
		return nil, err
	}
	var p certificateClaims
	if err := private(claims, &p); err != nil {
		return nil, err
	}
	c := &attest.CertificateEvidence{Version: p.Version, Certificates: p.Certificates, Boot: p.Boot}
	if c.Report, err = reportOf(claims); err != nil {
		return nil, err
	}
	v, _ := claims.Get(claimNotBefore)
	c.NotBefore, _ = v.(int64)
	return c, same(b, func() ([]byte, error) { return MarshalCertificate(c) })
}
