package atls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"

	"omega/attest"
	"omega/internal/dsse"
	"omega/internal/strictjson"
)

// releaser signs releases.
type releaser struct {
	key *ecdsa.PrivateKey
	der []byte
}

func newReleaser(t *testing.T) *releaser {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return &releaser{key, der}
}

// sign is the manifest in an envelope.
func (r *releaser) sign(t *testing.T, m *attest.Manifest) []byte {
	t.Helper()
	m.Type, m.PredicateType = attest.StatementType, attest.ReleasePredicate
	m.Subject = []attest.Subject{{Name: "kernel"}}
	m.Predicate.Source = map[string]attest.Bytes32{}
	payload, err := strictjson.Canonical(m)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(dsse.PAE(releasePayload, payload))
	sig, err := ecdsa.SignASN1(rand.Reader, r.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(dsse.Envelope{PayloadType: releasePayload, Payload: payload, Signatures: []dsse.Signature{{Sig: sig}}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// policy is a peer policy that accepts the releaser's releases.
func (r *releaser) policy(t *testing.T) []byte {
	t.Helper()
	keys, err := json.Marshal([][]byte{r.der})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Appendf(nil, `{"version":"omega/appraisal-policy/v1","manifest_keys":%s}`, keys)
}

func block(kind string, b []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b})
}

func TestAnImageTalksToTheReleasesThatItsMeasuredRootsName(t *testing.T) {
	a, b, r := newMachine(t, 1), newMachine(t, 2), newReleaser(t)
	roots := append(block("CERTIFICATE", b.root.ARK().Raw), block(BlockPolicy, r.policy(t))...)
	hardwareOnly, err := ParseTrust(roots)
	if err != nil {
		t.Fatal(err)
	}
	test, err := ParseTrust(append(roots, block(BlockEmulated, b.root.ARK().Raw)...))
	if err != nil {
		t.Fatal(err)
	}
	stranger := newReleaser(t)
	tests := []struct {
		name     string
		trust    *Trust
		releases [][]byte
		skipped  int
		class    error
		words    string
	}{
		{"a release among others", test, [][]byte{r.sign(t, a.manifest()), r.sign(t, b.manifest())}, 0, nil, ""},
		{"no release", test, nil, 0, attest.ErrCollateral, "no release"},
		{"another release", test, [][]byte{r.sign(t, a.manifest())}, 0, attest.ErrMismatch, "measurement"},
		{"a release of somebody else's", test, [][]byte{stranger.sign(t, b.manifest())}, 1, attest.ErrCollateral, "no release"},
		{"garbage beside it", test, [][]byte{[]byte("x"), r.sign(t, b.manifest())}, 1, nil, ""},
		{"an emulated peer, without a measured test root", hardwareOnly, [][]byte{r.sign(t, b.manifest())}, 0, attest.ErrSignature, "emulated"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			mine, skipped, err := tt.trust.Appraiser(tt.releases)
			if err != nil || len(skipped) != tt.skipped {
				t.Fatalf("%v, skipped %v", err, skipped)
			}
			_, peer, clientErr, _ := meet(t, dialer(t.Context(), a.platform(t), mine), listener(t.Context(), b.platform(t), a.appraiser(t)))
			if tt.class == nil {
				if clientErr != nil || peer.Evidence.Boot != b.boot {
					t.Errorf("client: %v", clientErr)
				}
				return
			}
			if !errors.Is(clientErr, tt.class) || !strings.Contains(clientErr.Error(), tt.words) {
				t.Errorf("client: %v, want %v with %q", clientErr, tt.class, tt.words)
			}
		})
	}
}

func TestMeasuredRootsThatSayLessThanTheyShouldAreRefused(t *testing.T) {
	r, root := newReleaser(t), newMachine(t, 1).root.ARK().Raw
	policy := block(BlockPolicy, r.policy(t))
	tests := []struct {
		name  string
		roots []byte
		words string
	}{
		{"two policies", append(policy[:len(policy):len(policy)], policy...), "two policies"},
		{"two emulated roots", append(append(policy[:len(policy):len(policy)], block(BlockEmulated, root)...), block(BlockEmulated, root)...), "two emulated"},
		{"an emulated root alone", block(BlockEmulated, root), "without a policy"},
		{"an emulated root that is none", append(policy[:len(policy):len(policy)], block(BlockEmulated, []byte("x"))...), "x509"},
		{"a policy that is none", block(BlockPolicy, []byte("x")), "policy"},
		{"a policy without keys", block(BlockPolicy, []byte(`{"version":"omega/appraisal-policy/v1"}`)), "manifest_keys"},
	}
	for _, tt := range tests {
		if _, err := ParseTrust(tt.roots); err == nil || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: %v, want an error with %q", tt.name, err, tt.words)
		}
	}
	for _, roots := range [][]byte{nil, []byte("no PEM"), block("CERTIFICATE", root)} {
		if trust, err := ParseTrust(roots); trust != nil || err != nil {
			t.Errorf("roots without a peer policy: %+v, %v", trust, err)
		}
	}
}

func FuzzParseTrust(f *testing.F) {
	f.Add(block(BlockPolicy, []byte(`{"version":"omega/appraisal-policy/v1"}`)))
	f.Add(block(BlockEmulated, []byte("x")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if trust, err := ParseTrust(b); err == nil && trust != nil && len(trust.Policy.ManifestKeys) == 0 {
			t.Error("a policy without keys was accepted")
		}
	})
}
