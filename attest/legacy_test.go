package attest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"testing"

	"omega/internal/dsse"
)

func TestCosignsOlderSignaturesVouch(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	digest := Bytes32{0xab}
	const good = `{"critical":{"identity":{"docker-reference":"x"},"image":{"docker-manifest-digest":"sha256:%s"},"type":"cosign container image signature"},"optional":{"principal":"mia","role":"model"}}`
	sign := func(text string, pae bool) Signature {
		message := []byte(text)
		if pae {
			message = dsse.PAE(principalPayload, message)
		}
		sum := sha256.Sum256(message)
		sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return Signature{Key: der, Payload: []byte(text), Sig: sig}
	}
	payload := fmt.Sprintf(good, digest)
	tests := []struct {
		name string
		c    Component
		sig  Signature
		ok   bool
	}{
		{"its own", Component{Digest: digest, Role: "model", Principal: "mia"}, sign(payload, false), true},
		{"of another digest", Component{Digest: Bytes32{1}, Role: "model", Principal: "mia"}, sign(payload, false), false},
		{"in another role", Component{Digest: digest, Role: "author", Principal: "mia"}, sign(payload, false), false},
		{"of another principal", Component{Digest: digest, Role: "model", Principal: "ada"}, sign(payload, false), false},
		{"in an envelope", Component{Digest: digest, Role: "model", Principal: "mia"}, sign(payload, true), false},
		{"of another type", Component{Digest: digest, Role: "model", Principal: "mia"}, sign(`{"critical":{},"optional":{"principal":"mia","role":"model"}}`, false), false},
		{"without a role", Component{Digest: digest, Principal: "mia"}, sign(fmt.Sprintf(`{"critical":{"identity":{"docker-reference":"x"},"image":{"docker-manifest-digest":"sha256:%s"},"type":"cosign container image signature"},"optional":{"principal":"mia"}}`, digest), false), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.c.Kind, tt.c.Name, tt.c.Signatures = "model", "small", []Signature{tt.sig}
			if err := new(Voucher).Vouched(&tt.c, Bytes32{}); (err == nil) != tt.ok {
				t.Errorf("vouched: %v", err)
			}
		})
	}
}

func FuzzReadSimpleSigning(f *testing.F) {
	f.Add([]byte(`{"critical":{"type":"cosign container image signature"},"optional":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := readSimpleSigning(b); err == nil && (v.role == "" || v.principal == "") {
			t.Fatalf("read %+v", v)
		}
	})
}
