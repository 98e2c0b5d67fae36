package attest

import (
	"encoding/binary"
	"time"

	"omega/internal/labelhash"
)

// CertificateVersion is the format of the evidence in a TLS certificate.
const CertificateVersion = "omega/certificate/v1"

// CertificateMaxAge is how old the evidence in a certificate may be. A platform
// makes new evidence after half of it.
const CertificateMaxAge = 24 * time.Hour

// CertificateEvidence is what a platform's TLS certificate carries. It answers
// no nonce: NotBefore, the platform's clock when it was made, lets a Verifier
// refuse what is older than it likes.
type CertificateEvidence struct {
	Version string
	// Report is the raw SNP report, with REPORT_DATA as below.
	Report []byte
	// Certificates is AMD's certificate table; it may be empty.
	Certificates []byte
	Boot         BootClaims
	// NotBefore is in seconds since 1970.
	NotBefore int64
}

// CertificateReportData is the REPORT_DATA that binds a TLS key (the SHA-256 of
// its SubjectPublicKeyInfo) to the digest of boot claims. Its label is its own,
// so that it can never stand for an answer to a nonce, nor the reverse.
func CertificateReportData(boot, spki [32]byte, notBefore int64) [64]byte {
	return labelhash.Sum512("omega/certificate/v1", boot[:], spki[:], binary.BigEndian.AppendUint64(nil, uint64(notBefore)))
}

// ReportData is the REPORT_DATA that the evidence must have for the TLS key.
func (c *CertificateEvidence) ReportData(spki [32]byte) [64]byte {
	return CertificateReportData(c.Boot.Digest(), spki, c.NotBefore)
}
