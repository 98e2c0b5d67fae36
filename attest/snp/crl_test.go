package snp

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"omega/attest"
	"omega/internal/membound"
)

// list is a revocation list by a root in the shape of AMD's. Real lists are not
// in the vectors, so a root of the test's own stands in; the real ARKs may sign
// such lists (key usage CRL Sign).
type list struct {
	ark   *x509.Certificate
	key   *rsa.PrivateKey
	entry []int64
	edit  func(*x509.RevocationList)
}

func testARK(t *testing.T) (*x509.Certificate, *rsa.PrivateKey) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(0x10000), Subject: pkix.Name{CommonName: "ARK-Milan"}, SignatureAlgorithm: x509.SHA384WithRSAPSS, SubjectKeyId: []byte{1},
		NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(1, 0, 0), BasicConstraintsValid: true, IsCA: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ark, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return ark, key
}

func (l list) der(t *testing.T) []byte {
	t.Helper()
	template := &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().AddDate(0, 6, 0), SignatureAlgorithm: x509.SHA384WithRSAPSS,
	}
	for _, serial := range l.entry {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(serial), RevocationTime: time.Now().Add(-time.Hour)})
	}
	if l.edit != nil {
		l.edit(template)
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, l.ark, l.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestARevocationListIsTheRootsAndOfToday(t *testing.T) {
	ark, key := testARK(t)
	_, otherKey := testARK(t)
	roots, err := AMDRoots()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		list
		want string
	}{
		"a good one":           {list{ark: ark, key: key}, ""},
		"with entries":         {list{ark: ark, key: key, entry: []int64{5}}, ""},
		"of yesterday":         {list{ark: ark, key: key, edit: func(l *x509.RevocationList) { l.NextUpdate = time.Now().Add(-time.Minute) }}, "get a newer one"},
		"of tomorrow":          {list{ark: ark, key: key, edit: func(l *x509.RevocationList) { l.ThisUpdate = time.Now().Add(time.Hour) }}, "not at"},
		"by another algorithm": {list{ark: ark, key: key, edit: func(l *x509.RevocationList) { l.SignatureAlgorithm = x509.SHA256WithRSA }}, "signature algorithm"},
		"of a part only": {list{ark: ark, key: key, edit: func(l *x509.RevocationList) {
			l.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 0}}}
		}}, "critical extension"},
	} {
		c, err := ParseCRL(tt.der(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Valid(ark, time.Now()); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	c, err := ParseCRL(list{ark: ark, key: key}.der(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Valid(roots[0].ARK, time.Now()); err == nil {
		t.Error("a list of another's is AMD's")
	}
	forged := *ark
	forged.PublicKey = otherKey.Public()
	if err := c.Valid(&forged, time.Now()); err == nil {
		t.Error("a list under another key is valid")
	}
}

func TestARevokedCertificateIsRefused(t *testing.T) {
	ark, key := testARK(t)
	certificate := func(name string, serial int64) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: name}, SerialNumber: big.NewInt(serial)}
	}
	for name, tt := range map[string]struct {
		entry        []int64
		middle, leaf int64
		want         string
	}{
		"nothing revoked":                {nil, 0x10001, 0, ""},
		"others revoked":                 {[]int64{7, 8}, 0x10001, 0, ""},
		"the ASK":                        {[]int64{7, 0x10001}, 0x10001, 0, `certificate of "SEV-Milan", serial 0x10001, was revoked`},
		"the VCEK":                       {[]int64{9}, 0x10001, 9, `certificate of "SEV-VCEK", serial 0x9, was revoked`},
		"serial 0, which all VCEKs have": {[]int64{0}, 0x10001, 0, ""},
	} {
		c, err := ParseCRL(list{ark: ark, key: key, entry: tt.entry}.der(t))
		if err != nil {
			t.Fatal(err)
		}
		err = c.check(ark, certificate("SEV-Milan", tt.middle), certificate("SEV-VCEK", tt.leaf), time.Now())
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// TestVerifyAsksTheList: a real report, whose chain is good, under a list that
// cannot be AMD's.
func TestVerifyAsksTheList(t *testing.T) {
	ark, key := testARK(t)
	c, err := ParseCRL(list{ark: ark, key: key}.der(t))
	if err != nil {
		t.Fatal(err)
	}
	milan, roots := real(t)[0], mustRoots(t)
	raw, at, chain := milan.report, milan.at, Chain{Leaf: mustCert(t, milan.leaf)}
	if _, err := Verify(raw, chain, roots, at); err != nil {
		t.Fatal(err)
	}
	chain.CRL = c
	if _, err := Verify(raw, chain, roots, at); !errors.Is(err, attest.ErrSignature) || !strings.Contains(err.Error(), "revocation list") {
		t.Errorf("error is %v", err)
	}
}

func TestOnlyOneListIsRead(t *testing.T) {
	ark, key := testARK(t)
	der := list{ark: ark, key: key}.der(t)
	text := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
	if _, err := ParseCRL(text); err != nil {
		t.Error(err)
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "bytes behind it": append(der[:len(der):len(der)], 0), "two": append(text[:len(text):len(text)], text...),
		"a certificate": ark.Raw, "too much": make([]byte, 1<<20),
		"a PEM certificate": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
	} {
		if _, err := ParseCRL(b); err == nil {
			t.Errorf("%s is read as a list", name)
		}
	}
}

func FuzzParseCRL(f *testing.F) {
	f.Add([]byte("-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n"))
	f.Add([]byte{0x30, 0})
	roots, err := AMDRoots()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		membound.Check(t, b, func() { _, _ = ParseCRL(b) })
		if c, err := ParseCRL(b); err == nil && c.Valid(roots[0].ARK, time.Now()) == nil {
			t.Error("a list by nobody is AMD's")
		}
	})
}
