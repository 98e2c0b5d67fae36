package cmw

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"omega/internal/membound"
)

// The first two are the examples of draft-ietf-rats-msg-wrap, section
// "Examples", in both serializations.
func TestARecordHasTheFormOfTheDraft(t *testing.T) {
	tests := []struct {
		name   string
		record Record
		cbor   string
		json   string
	}{
		{"a media type", Record{"application/vnd.example.rats-conceptual-msg", []byte{0x23, 0x47, 0xda, 0x55}, 0},
			"82" + "782b" + hex.EncodeToString([]byte("application/vnd.example.rats-conceptual-msg")) + "442347da55",
			`["application/vnd.example.rats-conceptual-msg","I0faVQ"]`},
		{"with its kinds", Record{"application/rim+cose", []byte{0xd2, 0x84, 0x40, 0xa0, 0x44, 0xd9, 0x01, 0xf5, 0xa0, 0x40}, ReferenceValues | Endorsements},
			"83" + "74" + hex.EncodeToString([]byte("application/rim+cose")) + "4ad28440a044d901f5a040" + "03",
			`["application/rim+cose","0oRAoETZAfWgQA",3]`},
		{"empty", Record{"a/b", []byte{}, Evidence}, "83" + "63612f62" + "40" + "04", `["a/b","",4]`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := tt.record.MarshalCBOR()
			if err != nil || hex.EncodeToString(b) != tt.cbor {
				t.Errorf("CBOR %x, %v, want %s", b, err, tt.cbor)
			}
			j, err := tt.record.MarshalJSON()
			if err != nil || string(j) != tt.json {
				t.Errorf("JSON %s, %v, want %s", j, err, tt.json)
			}
			for _, parse := range []func() (*Record, error){
				func() (*Record, error) { return ParseCBOR(b) }, func() (*Record, error) { return ParseJSON(j) },
			} {
				back, err := parse()
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.record, *back); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

func TestOtherFormsAreRefused(t *testing.T) {
	tests := []struct{ name, cbor, want string }{
		{"nothing", "", "early"},
		{"a map (a collection)", "a0", "array"},
		{"a tag", "da637480264401020304", "tag 1668579366"},
		{"a content format", "8219fde7442347da55", "media type"},
		{"one field", "8163612f62", "array"},
		{"four fields", "8463612f62400404", "array"},
		{"a text value", "8263612f626161", "bytes"},
		{"kind zero", "8363612f624000", "kind"},
		{"an unknown kind", "8363612f62401820", "kind 0x20"},
		{"a kind that is text", "8363612f62406131", "kind"},
		{"no media type", "826040", "media type"},
		{"a media type with a line break", "8263610a6240", "printable"},
		{"an indefinite array", "9f63612f6240ff", "information 31"},
		{"bytes behind", "8263612f624000", "behind"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := hex.DecodeString(tt.cbor)
			if err != nil {
				t.Fatal(err)
			}
			if r, err := ParseCBOR(b); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%+v, %v, want an error with %q", r, err, tt.want)
			}
		})
	}
	for _, text := range []string{
		``, `{}`, `["a/b"]`, `["a/b","",4,4]`, `[1,""]`, `["a/b",1]`, `["a/b","I0faVQ=="]`, `["a/b","I0fa\nVQ"]`, `["a/b","I0fa+Q"]`,
		`["a/b","I0faVR"]`, `["a/b","",0]`, `["a/b","",-1]`, `["a/b","",32]`, `["a/b","",4294967296]`, `["a/b","","4"]`, `["a/b",null]`, `[null,""]`, `["",""]`,
	} {
		if r, err := ParseJSON([]byte(text)); err == nil {
			t.Errorf("%s reads as %+v", text, r)
		}
	}
}

// certificate is a self-signed one with the extensions.
func certificate(t *testing.T, extensions ...pkix.Extension) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), ExtraExtensions: extensions}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestACertificateCarriesOneRecord(t *testing.T) {
	want := Record{"application/eat-ucs+cbor", []byte("claims"), Evidence}
	ext, err := want.Extension()
	if err != nil {
		t.Fatal(err)
	}
	if ext.Critical {
		t.Error("the extension is critical, which TLS libraries refuse")
	}
	got, err := FromCertificate(certificate(t, ext))
	if err != nil || !cmp.Equal(*got, want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if _, err := FromCertificate(certificate(t)); !errors.Is(err, ErrAbsent) {
		t.Errorf("a certificate without one: %v", err)
	}
	twice := &x509.Certificate{Extensions: []pkix.Extension{ext, ext}}
	if _, err := FromCertificate(twice); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("a certificate with two: %v", err)
	}
	long := Record{"a/b", make([]byte, MaxExtension), Evidence}
	if _, err := long.Extension(); err == nil {
		t.Error("a record too long for a certificate was put into one")
	}
	big := &x509.Certificate{Extensions: []pkix.Extension{{Id: OID(), Value: make([]byte, MaxExtension+1)}}}
	if _, err := FromCertificate(big); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("a certificate with a long one: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, r := range []Record{{"a/b", []byte{1}, 0}, {"application/eat-ucs+cbor", []byte("x"), Evidence}} {
		b, err := r.MarshalCBOR()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		if b, err = r.MarshalJSON(); err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		membound.Check(t, b, func() { _, _ = ParseCBOR(b) })
		membound.Check(t, b, func() { _, _ = ParseJSON(b) })
		if r, err := ParseCBOR(b); err == nil {
			if again, err := r.MarshalCBOR(); err != nil || string(again) != string(b) {
				t.Errorf("%x reads as %+v, which is %x, %v", b, r, again, err)
			}
		}
		if r, err := ParseJSON(b); err == nil {
			j, err := r.MarshalJSON()
			if err != nil {
				t.Fatalf("%s reads as %+v, which cannot be written: %v", b, r, err)
			}
			back, err := ParseJSON(j)
			if err != nil || !cmp.Equal(r, back) {
				t.Errorf("%s reads as %+v, again as %+v, %v", b, r, back, err)
			}
		}
	})
}
