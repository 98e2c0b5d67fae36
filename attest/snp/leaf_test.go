package snp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"omega/attest"
)

// forge is a root of the test's own, in AMD's shape, and what it signs.
type forge struct {
	t              *testing.T
	rootKey, askID crypto.Signer
	leafKey        *ecdsa.PrivateKey
	ark            *x509.Certificate
	// What the next chain will say.
	askName, leafName string
	extensions        map[string][]byte // by the OID below AMD's arc
	algorithm         x509.SignatureAlgorithm
	report            Report
	flip              int // byte of the signed report to change, 0 for none
}

func newForge(t *testing.T) *forge {
	t.Helper()
	f := &forge{t: t, askName: "SEV-Turin", leafName: "SEV-VCEK", algorithm: x509.SHA384WithRSAPSS}
	f.rootKey, f.askID = rsaKey(t), rsaKey(t)
	var err error
	if f.leafKey, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	f.ark = f.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "ARK-Turin"}, IsCA: true, BasicConstraintsValid: true, SignatureAlgorithm: x509.SHA384WithRSAPSS}, nil, f.rootKey.Public(), f.rootKey)
	return f
}

// reset makes everything honest: a Turin at some TCB.
func (f *forge) reset() {
	f.askName, f.leafName, f.algorithm = "SEV-Turin", "SEV-VCEK", x509.SHA384WithRSAPSS
	f.extensions = map[string][]byte{"1": {2, 1, 0}, "2": append([]byte{asn1.TagIA5String, 8}, "Turin-B1"...), "4": {1, 2, 3, 4, 5, 6, 7, 8}}
	for i, part := range tcbTurin {
		f.extensions["3."+string(rune('0'+part.oid))] = []byte{2, 1, byte(i + 1)}
	}
	f.flip = 0
	f.report = Report{Version: 5, GuestPolicy: PolicyStrict, Family: 0x1a, Model: 2, ReportedTCB: 0x0807060504030201}
	copy(f.report.ChipID[:], []byte{1, 2, 3, 4, 5, 6, 7, 8})
}

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (f *forge) issue(c, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	f.t.Helper()
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(1), at2026.Add(-time.Hour), at2026.Add(time.Hour)
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, key)
	if err != nil {
		f.t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

// verify makes chain and report as they are described, and verifies them.
func (f *forge) verify() error {
	ask := f.issue(&x509.Certificate{Subject: pkix.Name{CommonName: f.askName}, IsCA: true, BasicConstraintsValid: true, SignatureAlgorithm: x509.SHA384WithRSAPSS}, f.ark, f.askID.Public(), f.rootKey)
	leaf := &x509.Certificate{Subject: pkix.Name{CommonName: f.leafName}, SignatureAlgorithm: f.algorithm}
	for id, value := range f.extensions {
		oid := append(asn1.ObjectIdentifier{}, amdArc...)
		for _, n := range strings.Split(id, ".") {
			oid = append(oid, int(n[0]-'0'))
		}
		leaf.ExtraExtensions = append(leaf.ExtraExtensions, pkix.Extension{Id: oid, Value: value})
	}
	cert := f.issue(leaf, ask, f.leafKey.Public(), f.askID)
	sum := sha512.Sum384(f.report.Marshal()[:SignedSize])
	r, s, err := ecdsa.Sign(rand.Reader, f.leafKey, sum[:])
	if err != nil {
		f.t.Fatal(err)
	}
	for dst, n := range map[*[coordinate]byte]*big.Int{&f.report.R: r, &f.report.S: s} {
		for i, b := range n.FillBytes(make([]byte, coordinate)) {
			dst[coordinate-1-i] = b
		}
	}
	raw := f.report.Marshal()
	if f.flip > 0 {
		raw[f.flip] ^= 1
	}
	_, err = Verify(raw, Chain{Leaf: cert, Intermediate: ask}, []Root{{Product: Turin, ARK: f.ark}}, at2026)
	return err
}

// TestAReportAndItsCertificateMustSpeakOfOneMachine signs lies with valid keys.
func TestAReportAndItsCertificateMustSpeakOfOneMachine(t *testing.T) {
	asVLEK := func(f *forge) {
		f.report.SigningKey, f.askName, f.leafName = VLEK, "SEV-VLEK-Turin", "SEV-VLEK"
		delete(f.extensions, "4")
		f.extensions["5"] = append([]byte{asn1.TagIA5String, 5}, "cloud"...)
	}
	tests := []struct {
		name string
		lie  func(*forge)
		want string // in the error; empty: accepted
	}{
		{"an honest VCEK", func(*forge) {}, ""},
		{"an honest VLEK", asVLEK, ""},
		{"another TCB", func(f *forge) { f.report.ReportedTCB++ }, "REPORTED_TCB"},
		{"another chip", func(f *forge) { f.report.ChipID[0]++ }, "another chip"},
		{"a chip with more bytes", func(f *forge) { f.report.ChipID[8]++ }, "CHIP_ID"},
		{"a hidden chip", func(f *forge) { f.report.ChipID = [64]byte{} }, ""},
		{"a hidden chip whose HWID is zero", func(f *forge) { f.report.ChipID = [64]byte{}; f.extensions["4"] = make([]byte, 8) }, "HWID"},
		{"a masked key", func(f *forge) { f.report.MaskChipKey = true }, "masked"},
		{"another CPU family", func(f *forge) { f.report.Family = 0x19 }, "not Turin"},
		{"another CPU model", func(f *forge) { f.report.Model = 0x20 }, "not Turin"},
		{"another product name", func(f *forge) { f.extensions["2"] = append([]byte{asn1.TagIA5String, 5}, "Genoa"...) }, "product name"},
		{"a longer product name", func(f *forge) { f.extensions["2"] = append([]byte{asn1.TagIA5String, 6}, "Turing"...) }, "product name"},
		{"a product name of another type", func(f *forge) { f.extensions["2"][0] = asn1.TagUTF8String }, "IA5String"},
		{"no TCB for the boot loader", func(f *forge) { delete(f.extensions, "3.1") }, "TCB extensions"},
		{"a TCB of another layout", func(f *forge) { f.extensions["3.4"] = f.extensions["3.9"]; delete(f.extensions, "3.9") }, "fmc"},
		{"one TCB too many", func(f *forge) { f.extensions["3.4"] = []byte{2, 1, 0} }, "TCB extensions"},
		{"a TCB that is no byte", func(f *forge) { f.extensions["3.1"] = []byte{2, 2, 1, 0} }, "integer"},
		{"an unknown extension of AMD's", func(f *forge) { f.extensions["7"] = []byte{2, 1, 0} }, "not known"},
		{"an HWID of 64 bytes", func(f *forge) { f.extensions["4"] = make([]byte, 64) }, "HWID"},
		{"no HWID", func(f *forge) { delete(f.extensions, "4") }, "HWID"},
		{"a VCEK that names a cloud", func(f *forge) { f.extensions["5"] = append([]byte{asn1.TagIA5String, 1}, 'c') }, "HWID"},
		{"a VLEK with a chip", func(f *forge) { asVLEK(f); f.extensions["4"] = make([]byte, 8) }, "cloud provider"},
		{"a VLEK of no cloud", func(f *forge) { asVLEK(f); delete(f.extensions, "5") }, "cloud provider"},
		{"a VCEK for a VLEK's report", func(f *forge) { f.report.SigningKey = VLEK }, "expected \"SEV-VLEK-Turin\""},
		{"a VLEK for a VCEK's report", func(f *forge) { asVLEK(f); f.report.SigningKey = VCEK }, "expected \"SEV-Turin\""},
		{"an unknown signing key", func(f *forge) { f.report.SigningKey = 7 }, "expected"},
		{"another key of the ASK's", func(f *forge) { f.leafName = "SEV-OTHER" }, "expected \"SEV-VCEK\""},
		{"a changed measurement", func(f *forge) { f.flip = 0x90 }, "signature of the report"},
		{"a changed R", func(f *forge) { f.flip = SignedSize }, "signature of the report"},
		{"a changed S", func(f *forge) { f.flip = SignedSize + coordinate + 47 }, "signature of the report"},
		{"an R beyond P-384", func(f *forge) { f.flip = SignedSize + 71 }, "signature of the report"},
		{"another signature algorithm", func(f *forge) { f.algorithm = x509.SHA256WithRSA }, "algorithm"},
	}
	f := newForge(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f.t = t
			f.reset()
			tt.lie(f)
			err := f.verify()
			if tt.want == "" && err != nil {
				t.Errorf("error is %v", err)
			}
			if tt.want != "" && (!errors.Is(err, attest.ErrSignature) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error is %v, want one with %q", err, tt.want)
			}
		})
	}
}
