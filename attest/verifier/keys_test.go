package verifier_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"fmt"

	"omega/attest"
	"omega/internal/dsse"
)

// signingKey is a principal's key.
type signingKey struct {
	*ecdsa.PrivateKey
	spki []byte
}

func newSigningKey() signingKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		panic(err)
	}
	return signingKey{k, der}
}

// ID is the key's ID in hex.
func (k signingKey) ID() string { return attest.Bytes32(sha256.Sum256(k.spki)).String() }

func (k signingKey) sign(payloadType string, payload []byte) []byte {
	sum := sha256.Sum256(dsse.PAE(payloadType, payload))
	sig, err := ecdsa.SignASN1(rand.Reader, k.PrivateKey, sum[:])
	if err != nil {
		panic(err)
	}
	return sig
}

// vouch is the key's signature over a principal's statement about digest.
func (k signingKey) vouch(digest attest.Bytes32, role, principal string) attest.Signature {
	payload := fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","predicate":{"principal":%q,"role":%q},"predicateType":"https://omega.invalid/principal/v1","subject":[{"digest":{"sha256":"%s"}}]}`,
		principal, role, digest)
	return attest.Signature{Key: k.spki, Payload: payload, Sig: k.sign("application/vnd.in-toto+json", payload)}
}

// ann, bob and mia are principals of the tests: an author, another, and a model
// provider.
var ann, bob, mia = newSigningKey(), newSigningKey(), newSigningKey()

// reseal makes an agent's identity that of its components.
func reseal(g *attest.Agent) { g.Identity = attest.IdentityRoot(g.Components) }
