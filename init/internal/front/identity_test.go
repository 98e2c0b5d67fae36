package front

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"omega/attest"
	"omega/attest/cmw"
	"omega/attest/eat"
	"omega/attest/snp"
)

// token is what a signer would make for the key; its report is not signed.
func token(t *testing.T, key [32]byte, notBefore time.Time) (*attest.CertificateEvidence, []byte) {
	t.Helper()
	c := &attest.CertificateEvidence{
		Version: attest.CertificateVersion, Certificates: []byte{}, NotBefore: notBefore.Unix(),
		Boot: attest.BootClaims{Version: attest.BootVersion, TLSKey: key, Profile: "cpu", SVN: 1},
	}
	report := snp.Report{Version: 2, GuestPolicy: snp.PolicyStrict, ReportData: c.ReportData(key)}
	c.Report = report.Marshal()
	b, err := eat.MarshalCertificate(c)
	if err != nil {
		t.Fatal(err)
	}
	return c, b
}

func TestTheCertificateCarriesTheKeyAndItsEvidence(t *testing.T) {
	id, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := id.Certificate(); !errors.Is(err, ErrNoCertificate) {
		t.Errorf("before the first: %v", err)
	}
	begin := time.Now().Truncate(time.Second).Add(-time.Minute)
	evidence, b := token(t, id.KeyDigest, begin)
	if err := id.Issue(b); err != nil {
		t.Fatal(err)
	}
	l := loopback(t)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		s := &Service{Identity: id, Handler: testFront().Handler(), Log: slog.New(slog.DiscardHandler)}
		served <- s.Serve(ctx, l)
	}()

	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("https://" + l.Addr().String() + "/log/checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != "note" {
		t.Errorf("body = %q", body)
	}
	if resp.ProtoMajor != 1 {
		t.Errorf("%s is spoken, which has no bound on requests", resp.Proto)
	}
	cert := resp.TLS.PeerCertificates[0]
	if sha256.Sum256(cert.RawSubjectPublicKeyInfo) != id.KeyDigest {
		t.Error("the connection's key is not the identity's")
	}
	record, err := cmw.FromCertificate(cert)
	if err != nil {
		t.Fatal(err)
	}
	if record.Type != eat.CertificateMediaType || record.Kind != cmw.Evidence {
		t.Errorf("the record is of type %s, kind %d", record.Type, record.Kind)
	}
	got, err := eat.ParseCertificate(record.Value)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(evidence, got); diff != "" {
		t.Error(diff)
	}
	if !cert.NotBefore.Equal(begin) || !cert.NotAfter.Equal(begin.Add(attest.CertificateMaxAge)) {
		t.Errorf("valid from %s to %s", cert.NotBefore, cert.NotAfter)
	}
	roots := x509.NewCertPool() // a client that was given this certificate accepts it
	roots.AddCert(cert)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: "omega.invalid"}); err != nil {
		t.Errorf("the certificate under itself: %v", err)
	}
	old := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}
	if c, err := tls.Dial("tcp", l.Addr().String(), old); err == nil {
		c.Close()
		t.Error("TLS 1.2 was accepted")
	}
	cancel()
	if err := <-served; !errors.Is(err, context.Canceled) {
		t.Errorf("Serve ended with %v", err)
	}
}

func TestARenewedCertificateIsTheOneThatIsShown(t *testing.T) {
	id, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	serials := map[string]bool{}
	for _, at := range []time.Time{time.Unix(1700000000, 0), time.Unix(1700043200, 0)} {
		_, b := token(t, id.KeyDigest, at)
		if err := id.Issue(b); err != nil {
			t.Fatal(err)
		}
		c, err := id.Certificate()
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		if !leaf.NotBefore.Equal(at) {
			t.Errorf("valid from %s, want %s", leaf.NotBefore, at)
		}
		serials[leaf.SerialNumber.String()] = true
	}
	if len(serials) != 2 {
		t.Error("two certificates have one serial number")
	}
}

func TestOnlyEvidenceForThisKeyMakesACertificate(t *testing.T) {
	id, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	_, other := token(t, [32]byte{1}, time.Now())
	if err := id.Issue(other); err == nil {
		t.Error("evidence for another key was taken")
	}
	if err := id.Issue([]byte("token")); err == nil {
		t.Error("bytes that are no token were taken")
	}
	if _, err := id.Certificate(); err == nil {
		t.Error("there is a certificate")
	}
}
