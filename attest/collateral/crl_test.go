package collateral_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/http"
	"testing"
	"time"

	"omega/attest"
	"omega/attest/collateral"
	"omega/attest/snp"
)

func TestARevocationListIsKeptForADayAndOnlyOneOfTheRoots(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	ark := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ARK-Milan"}, SignatureAlgorithm: x509.SHA384WithRSAPSS, SubjectKeyId: []byte{1},
		NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0), BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ark, ark, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if ark, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: now.Add(-time.Hour), NextUpdate: now.AddDate(0, 6, 0), SignatureAlgorithm: x509.SHA384WithRSAPSS,
	}, ark, key)
	if err != nil {
		t.Fatal(err)
	}
	k := newKDS(t)
	k.answer = func(_ int, w http.ResponseWriter) bool { _, _ = w.Write(list); return true }
	root := &snp.Root{Product: snp.Milan, ARK: ark}
	c := &collateral.Client{Base: k.URL, Dir: t.TempDir()}
	offline := &collateral.Client{Base: k.URL, Dir: c.Dir, Offline: true}
	if _, err := offline.Revocations(t.Context(), snp.VCEK, root, now); !errors.Is(err, attest.ErrCollateral) || len(k.asked) != 0 {
		t.Errorf("offline without a list: %v, %d requests", err, len(k.asked))
	}
	for range 2 {
		if _, err := c.Revocations(t.Context(), snp.VCEK, root, now); err != nil {
			t.Fatal(err)
		}
	}
	if len(k.asked) != 1 || k.asked[0] != "/vcek/v1/Milan/crl" {
		t.Errorf("asked for %q", k.asked)
	}
	if _, err := offline.Revocations(t.Context(), snp.VCEK, root, now); err != nil || c.KeptRevocations(snp.VCEK, root, now) == nil {
		t.Errorf("the kept list is not used: %v", err)
	}
	if _, err := c.Revocations(t.Context(), snp.VCEK, root, now.Add(25*time.Hour)); err != nil || len(k.asked) != 2 {
		t.Errorf("a list of yesterday is not asked for again: %v, %d requests", err, len(k.asked))
	}
	if c.KeptRevocations(snp.VCEK, root, now.AddDate(1, 0, 0)) != nil {
		t.Error("an outdated list is used")
	}
	if _, err := c.Revocations(t.Context(), snp.VLEK, &roots(t)[0], now); !errors.Is(err, attest.ErrCollateral) {
		t.Errorf("a list of another root: %v", err)
	}
}
