package bundle

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// simple signs a payload in cosign's older form.
func simple(t testing.TB, key *PrivateKey, digest Digest, optional string) (payload, sig []byte) {
	t.Helper()
	payload = fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":"a/b"},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":%s}`, digest, optional)
	sum := sha256.Sum256(payload)
	sig, err := ecdsa.SignASN1(rand.Reader, key.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return payload, sig
}

func TestOlderSignaturesAreBelievedOnlyForWhatTheySay(t *testing.T) {
	key, pub := newKey(t)
	_, other := newKey(t)
	d := DigestOf([]byte("subject"))
	const whole = `{"role":"author","principal":"acme","Creator":"somebody"}`
	tests := []struct {
		name, optional string
		digest         Digest
		keys           []Key
		want           error
	}{
		{"signed by the key", whole, d, []Key{other, pub}, nil},
		{"by another key", whole, d, []Key{other}, ErrSignature},
		{"by nobody", whole, d, nil, ErrSignature},
		{"about something else", whole, DigestOf(nil), []Key{pub}, ErrSubject},
		{"without annotations", "null", d, []Key{pub}, ErrNoRole},
		{"without a principal", `{"role":"author"}`, d, []Key{pub}, ErrNoRole},
		{"with a role that is no name", `{"role":"Author!","principal":"acme"}`, d, []Key{pub}, ErrNoRole},
		{"with a role that is no text", `{"role":1,"principal":"acme"}`, d, []Key{pub}, ErrNoRole},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			payload, sig := simple(t, key, d, tt.optional)
			s, err := VerifyLegacy(payload, sig, tt.digest, tt.keys)
			if !errors.Is(err, tt.want) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			if err == nil && (s.Vouch != Vouch{"author", "acme"} || s.KeyID != pub.ID) {
				t.Errorf("believed %+v", s)
			}
		})
	}
	payload, sig := simple(t, key, d, whole)
	payload[len(payload)/2] ^= 1
	if _, err := VerifyLegacy(payload, sig, d, []Key{pub}); !errors.Is(err, ErrSignature) {
		t.Errorf("a changed payload: %v", err)
	}
	twice := []byte(strings.Replace(string(payload), `"optional":{`, `"optional":{},"optional":{`, 1))
	if _, _, err := parseSimpleSigning(twice); err == nil {
		t.Error("a payload that can be read in two ways was read")
	}
}

// taggedShelf has manifests under tags, too.
type taggedShelf struct {
	*shelf
	tags map[string][]byte
}

func (s taggedShelf) Legacy(_ context.Context, d Digest) ([]byte, error) {
	return s.tags[LegacyTag(d)], nil
}

func TestOlderSignaturesAreFoundUnderTheirTag(t *testing.T) {
	w := newWorkshop(t)
	m := agentOf("two", w.named("small"), nil, nil)
	d := w.bundle(m)
	delete(w.shelf.refers, d) // nobody signed it in today's form
	payload, sig := simple(t, w.keys["acme"], d, `{"role":"author","principal":"acme"}`)
	w.shelf.blobs[DigestOf(payload)] = payload
	tagged := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"x","digest":%q,"size":2},"layers":[{"mediaType":"text/plain","digest":%q,"size":1},{"mediaType":%q,"digest":%q,"size":%d,"annotations":{%q:%q}}]}`,
		TypeOCIManifest, DigestOf([]byte("{}")), DigestOf(nil), typeSimpleSigning, DigestOf(payload), len(payload), noteSignature, base64.StdEncoding.EncodeToString(sig))
	c, err := NewChecker(w.trust)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Check(t.Context(), w.shelf, d); !errors.Is(err, ErrUnsigned) {
		t.Errorf("without a signature: %v", err)
	}
	from := taggedShelf{w.shelf, map[string][]byte{LegacyTag(d): tagged}}
	got, err := c.Check(t.Context(), from, d)
	if err != nil || string(got.Components[0].Signatures[0].Payload) != string(payload) {
		t.Errorf("%v", err)
	}
	from.tags[LegacyTag(d)] = []byte("{")
	if _, err := c.Check(t.Context(), from, d); !errors.Is(err, ErrUnsigned) {
		t.Errorf("with a broken manifest: %v", err)
	}
}

func FuzzParseSimpleSigning(f *testing.F) {
	key, _ := newKey(f)
	payload, _ := simple(f, key, DigestOf(nil), `{"role":"author","principal":"acme"}`)
	f.Add(payload)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, v, err := parseSimpleSigning(b); err == nil && (!ValidName(v.Role) || !ValidName(v.Principal)) {
			t.Fatalf("read %+v", v)
		}
	})
}
