package signer

import (
	"bytes"
	"context"
	"testing"
	"time"

	"omega/attest"
	"omega/attest/snp"
)

func TestACertificatesEvidenceBindsTheFrontsKeyUnderItsOwnLabel(t *testing.T) {
	table := snp.Table{VCEK: []byte("leaf"), ASK: []byte("middle"), ARK: []byte("root")}
	s := newSigner(t, deviceFunc(func(_ context.Context, data [64]byte) ([]byte, []byte, error) {
		return data[:], table.Marshal(), nil
	}))
	if _, err := s.Certificate(t.Context(), time.Unix(1700000000, 0)); err == nil {
		t.Error("evidence for a key that is not known yet")
	}
	complete(t, s)
	c, err := s.Certificate(t.Context(), time.Unix(1700000000, 5))
	if err != nil {
		t.Fatal(err)
	}
	claims, err := s.Claims()
	if err != nil {
		t.Fatal(err)
	}
	if c.Boot != claims || c.NotBefore != 1700000000 {
		t.Errorf("evidence %+v, want the claims and the time", c)
	}
	if [64]byte(c.Report) != attest.CertificateReportData(claims.Digest(), claims.TLSKey, 1700000000) {
		t.Error("REPORT_DATA is not that of the claims, the key and the time")
	}
	if [64]byte(c.Report) == attest.ReportData(claims.Digest(), claims.TLSKey) {
		t.Error("the certificate's evidence could stand for a session's")
	}
	got, err := snp.ParseTable(c.Certificates)
	if err != nil || string(got.VCEK) != "leaf" || string(got.ASK) != "middle" || got.ARK != nil {
		t.Errorf("certificates %+v, %v, want leaf and middle alone", got, err)
	}
}

func TestTheCertificateStaysSmallWhateverTheHostPassesAlong(t *testing.T) {
	tests := []struct {
		name  string
		table []byte
		want  int
	}{
		{"none", nil, 0},
		{"bytes that are no table", []byte("host"), 0},
		{"only a middle", (&snp.Table{ASK: []byte("x")}).Marshal(), 0},
		{"a leaf", (&snp.Table{VLEK: []byte("x")}).Marshal(), 49},
		{"a huge leaf", (&snp.Table{VCEK: bytes.Repeat([]byte("x"), maxCertificateTable+1)}).Marshal(), 0},
	}
	for _, tt := range tests {
		if got := small(tt.table); len(got) != tt.want {
			t.Errorf("%s: %d bytes, want %d", tt.name, len(got), tt.want)
		}
	}
}
