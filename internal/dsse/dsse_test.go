package dsse

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"testing"

	"omega/internal/membound"
)

func newKey(t testing.TB, curve elliptic.Curve) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return k, der
}

func TestPAEIsTheSpecsExample(t *testing.T) {
	// protocol.md of dsse v1.0.2, "Test Vectors".
	if got, want := string(PAE("http://example.com/HelloWorld", []byte("hello world"))), "DSSEv1 29 http://example.com/HelloWorld 11 hello world"; got != want {
		t.Errorf("PAE = %q, want %q", got, want)
	}
}

func TestSignersAreThoseWhoseSignatureIsThereOnce(t *testing.T) {
	private, der := newKey(t, elliptic.P256())
	_, otherDER := newKey(t, elliptic.P256())
	key, err := ParseKey(der)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ParseKey(otherDER)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(PAE("text/x", []byte("payload")))
	sig, err := ecdsa.SignASN1(rand.Reader, private, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(Envelope{PayloadType: "text/x", Payload: []byte("payload"), Signatures: []Signature{{Sig: sig}, {Sig: sig, KeyID: "x"}}})
	if err != nil {
		t.Fatal(err)
	}
	e, err := Parse(raw, "text/x", 4096)
	if err != nil {
		t.Fatal(err)
	}
	if got := e.Signers([]Key{other, key, key, {}}); len(got) != 1 || got[0] != key.ID || key.ID != sha256.Sum256(der) {
		t.Errorf("signers %x", got)
	}
	e.PayloadType = "text/y"
	if len(e.Signers([]Key{key})) != 0 {
		t.Error("the type is not covered")
	}
	for name, bad := range map[string]func() error{
		"another type": func() error { _, err := Parse(raw, "text/y", 4096); return err },
		"too long":     func() error { _, err := Parse(raw, "text/x", 10); return err },
		"no signature": func() error {
			_, err := Parse([]byte(`{"payloadType":"text/x","payload":"","signatures":[]}`), "text/x", 4096)
			return err
		},
	} {
		if bad() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestOnlyP256KeysInTheirOneFormAreKeys(t *testing.T) {
	_, good := newKey(t, elliptic.P256())
	_, p384 := newKey(t, elliptic.P384())
	for name, der := range map[string][]byte{"another curve": p384, "nothing": nil, "trailing bytes": append(good, 0)} {
		if _, err := ParseKey(der); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"payloadType":"text/x","payload":"cGF5bG9hZA==","signatures":[{"keyid":"x","sig":"c2ln"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		membound.Check(t, b, func() { _, _ = Parse(b, "text/x", 4096) })
		if e, err := Parse(b, "text/x", 4096); err == nil {
			_ = e.Signers([]Key{{}})
		}
	})
}
