package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"omega/agentloader"
	"omega/agentloader/bundle"
	"omega/attest"
	"omega/internal/dsse"
	"omega/policy"
)

func TestWhatIsRevokedIsNotAdmittedAndAHostCannotKeepTheListBack(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	named := &policy.Document{Principals: []policy.Principal{{Name: "sec", Roles: []string{policy.RoleRevoker}, Keys: []policy.Key{{PEM: text}}}}}
	unnamed := &policy.Document{Principals: []policy.Principal{{Name: "ann", Roles: []string{policy.RoleAuthor}, Keys: []policy.Key{{PEM: text}}}}}
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	list := func(components, keys string) []byte {
		payload := fmt.Appendf(nil, `{"version":"omega/revocations/v1","serial":3,"issued":"2026-01-01T00:00:00Z","expires":"2026-01-08T00:00:00Z","components":[%s],"keys":[%s]}`, components, keys)
		sum := sha256.Sum256(dsse.PAE(attest.RevocationPayload, payload))
		sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(dsse.Envelope{PayloadType: attest.RevocationPayload, Payload: payload, Signatures: []dsse.Signature{{Sig: sig}}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	spki := []byte("the author's key")
	id := attest.Bytes32(sha256.Sum256(spki))
	parts := []agentloader.Component{{Kind: "model", Name: "llama", Digest: bundle.Digest{7}, Principal: "ann", Signatures: []bundle.Signed{{Key: spki}}}}
	tests := []struct {
		name string
		doc  *policy.Document
		list []byte
		at   time.Time
		want string // of the refusal
	}{
		{"nobody may revoke", unnamed, nil, now, ""},
		{"nobody may revoke, and the host gives a list", unnamed, list(fmt.Sprintf("%q", attest.Bytes32{7}), ""), now, ""},
		{"a list of nothing", named, list("", ""), now, ""},
		{"no list", named, nil, now, "has none"},
		{"garbage", named, []byte("{}"), now, "revocation list"},
		{"an expired list", named, list("", ""), now.AddDate(0, 0, 7), "is good from"},
		{"a revoked model", named, list(fmt.Sprintf("%q", attest.Bytes32{7}), ""), now, `model "llama" is revoked`},
		{"a revoked bundle", named, list(fmt.Sprintf("%q", attest.Bytes32{9}), ""), now, "agent bundle"},
		{"a revoked key", named, list("", fmt.Sprintf("%q", id)), now, "key"},
	}
	for _, tt := range tests {
		r, err := newRevoked(tt.doc, tt.list, func() time.Time { return tt.at })
		if err != nil {
			t.Fatal(err)
		}
		until, uerr := r.until()
		err = r.check(bundle.Digest{9}, parts)
		if err == nil && (uerr != nil || until.IsZero() != (tt.doc == unnamed) || tt.doc == named && !until.After(tt.at)) {
			t.Errorf("%s: it may be started until %v, %v", tt.name, until, uerr)
		}
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	if _, err := newRevoked(&policy.Document{Principals: []policy.Principal{{Roles: []string{policy.RoleRevoker}, Keys: []policy.Key{{PEM: "x"}}}}}, nil, time.Now); err == nil {
		t.Error("a revoker without a key is accepted")
	}
}
