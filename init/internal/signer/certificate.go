package signer

import (
	"context"
	"time"

	"omega/attest"
	"omega/attest/snp"
)

// maxCertificateTable bounds AMD's certificates in a TLS certificate: a chip's
// and the one above it have about three kilobytes together.
const maxCertificateTable = 8 << 10

// Certificate returns the evidence for the front's TLS certificate. It is about
// the key that SetFrontKeys named and no other, and says when it was made by
// the clock now, which is the host's claim.
func (s *Signer) Certificate(ctx context.Context, now time.Time) (*attest.CertificateEvidence, error) {
	claims, err := s.Claims()
	if err != nil {
		return nil, err
	}
	c := &attest.CertificateEvidence{Version: attest.CertificateVersion, Boot: claims, NotBefore: now.Unix()}
	report, certs, err := s.report(ctx, c.ReportData(claims.TLSKey))
	if err != nil {
		return nil, err
	}
	c.Report, c.Certificates = report, small(certs)
	return c, nil
}

// small is the certificate table without what a verifier does not take from it:
// AMD's root, which it must have, and entries of other kinds. A table that
// cannot be read, or stays large, is left out: certificates can be fetched.
func small(certs []byte) []byte {
	t, err := snp.ParseTable(certs)
	if err != nil || len(t.VCEK)+len(t.VLEK)+len(t.ASK) > maxCertificateTable {
		return []byte{}
	}
	if len(t.VCEK)+len(t.VLEK) == 0 {
		return []byte{}
	}
	t.ARK = nil
	return t.Marshal()
}
