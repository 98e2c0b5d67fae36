package attest

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"omega/internal/dsse"
	"omega/internal/membound"
)

// revoker is a key that may sign revocation lists.
type revoker struct {
	*ecdsa.PrivateKey
	key dsse.Key
}

func newRevoker(t testing.TB) revoker {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := dsse.ParseKey(der)
	if err != nil {
		t.Fatal(err)
	}
	return revoker{k, key}
}

func seal(t testing.TB, payload string, by ...revoker) []byte {
	t.Helper()
	e := dsse.Envelope{PayloadType: RevocationPayload, Payload: []byte(payload)}
	for _, r := range by {
		sum := sha256.Sum256(dsse.PAE(e.PayloadType, e.Payload))
		sig, err := ecdsa.SignASN1(rand.Reader, r.PrivateKey, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		e.Signatures = append(e.Signatures, dsse.Signature{Sig: sig})
	}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const list = `{"version":"omega/revocations/v1","serial":3,"issued":"2026-01-01T00:00:00Z","expires":"2026-01-08T00:00:00Z","components":["%s"],"keys":["%s"]}`

func goodList() string { return fmt.Sprintf(list, Bytes32{1}, Bytes32{2}) }

func TestARevocationListNamesComponentsAndKeysUntilItExpires(t *testing.T) {
	one, two := newRevoker(t), newRevoker(t)
	by := RevocationKeys{Keys: []dsse.Key{one.key, two.key}, Threshold: 2}
	r, err := ParseRevocations(seal(t, goodList(), one, two), by)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Refused(Bytes32{1}, Bytes32{}) || !r.Refused(Bytes32{9}, Bytes32{2}) || r.Refused(Bytes32{2}, Bytes32{1}) || r.Refused(Bytes32{}, Bytes32{}) {
		t.Errorf("list %+v", r)
	}
	if (*Revocations)(nil).Refused(Bytes32{1}, Bytes32{2}) {
		t.Error("no list refuses something")
	}
	for at, good := range map[string]bool{
		"2025-12-31T23:59:59Z": false, "2026-01-01T00:00:00Z": true, "2026-01-07T23:59:59Z": true, "2026-01-08T00:00:00Z": false, "2027-01-01T00:00:00Z": false,
	} {
		now, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Current(now); (err == nil) != good || err != nil && !errors.Is(err, ErrSignature) {
			t.Errorf("at %s: %v", at, err)
		}
	}
	part := Component{Kind: "model", Name: "llama", Digest: Bytes32{5}, Principal: "mia", Signatures: []Signature{{Key: []byte("k")}}}
	r.Keys = append(r.Keys, part.Signatures[0].KeyID())
	if why := r.RefusedPart(&part); !strings.Contains(why, "key") || !strings.Contains(why, "mia") {
		t.Errorf("a component by a revoked key: %q", why)
	}
	r.Components = append(r.Components, part.Digest)
	if why := r.RefusedPart(&part); why != `model "llama" is revoked` {
		t.Errorf("a revoked component: %q", why)
	}
}

func TestAListThatNobodyMayRelyOnIsRefused(t *testing.T) {
	one, two, stranger := newRevoker(t), newRevoker(t), newRevoker(t)
	by := RevocationKeys{Keys: []dsse.Key{one.key, two.key}, Threshold: 2}
	good := goodList()
	for name, b := range map[string][]byte{
		"one signature of two":       seal(t, good, one),
		"one key twice":              seal(t, good, one, one),
		"a stranger's signature":     seal(t, good, one, stranger),
		"no signature":               seal(t, good),
		"not an envelope":            []byte(good),
		"trailing bytes":             append(seal(t, good, one, two), ' ', 'x'),
		"another payload type":       []byte(strings.Replace(string(seal(t, good, one, two)), "revocations+json", "revocation+json", 1)),
		"a changed list":             []byte(strings.Replace(string(seal(t, good, one, two)), base64.StdEncoding.EncodeToString([]byte(good))[:20], base64.StdEncoding.EncodeToString([]byte(`{"version":"omega/re`))[:20]+"AAAA", 1)),
		"another version":            seal(t, strings.Replace(good, "/v1", "/v2", 1), one, two),
		"no serial":                  seal(t, strings.Replace(good, `"serial":3`, `"serial":0`, 1), one, two),
		"no lifetime":                seal(t, strings.Replace(good, "01-08", "01-01", 1), one, two),
		"a lifetime without an end":  seal(t, strings.Replace(good, "2026-01-08", "2099-01-08", 1), one, two),
		"an unknown field":           seal(t, strings.Replace(good, `"serial"`, `"x":1,"serial"`, 1), one, two),
		"a digest of another length": seal(t, strings.Replace(good, "0100", "01", 1), one, two),
		"a list that is cut off":     seal(t, good[:len(good)-1], one, two),
	} {
		if _, err := ParseRevocations(b, by); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseRevocations(seal(t, good, one), RevocationKeys{}); err == nil {
		t.Error("no keys accept a list")
	}
	if _, err := ParseRevocations(seal(t, good, one), RevocationKeys{Keys: by.Keys}); err != nil {
		t.Errorf("no threshold means one signature: %v", err)
	}
}

func goodInvocation() Invocation {
	return Invocation{
		Version: InvocationVersion, Platform: Bytes32{1}, Instance: "a-1", Identity: Bytes32{2}, Input: Bytes32{3}, Output: Bytes32{4},
		LogIndex: 5, LogLeaf: Bytes32{6}, Labels: []string{"a", "b"},
	}
}

func TestAnInvocationStatementSurvivesItsJSONAndNoChange(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := goodInvocation()
	message := i.Message()
	b, err := json.Marshal(SignedInvocation{Statement: i, Signature: ed25519.Sign(private, message[:])})
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseInvocation(b)
	if err != nil || !s.SignedBy([32]byte(public)) {
		t.Fatalf("%+v, %v", s, err)
	}
	for name, change := range map[string]func(*Invocation){
		"platform": func(i *Invocation) { i.Platform[0]++ }, "instance": func(i *Invocation) { i.Instance += "x" }, "identity": func(i *Invocation) { i.Identity[0]++ },
		"input": func(i *Invocation) { i.Input[0]++ }, "output": func(i *Invocation) { i.Output[0]++ }, "index": func(i *Invocation) { i.LogIndex++ },
		"leaf": func(i *Invocation) { i.LogLeaf[0]++ }, "labels": func(i *Invocation) { i.Labels = i.Labels[:1] }, "joined labels": func(i *Invocation) { i.Labels = []string{"ab"} },
	} {
		bad := *s
		change(&bad.Statement)
		if bad.SignedBy([32]byte(public)) {
			t.Errorf("another %s is signed", name)
		}
	}
}

func TestMalformedInvocationStatementsAreRefused(t *testing.T) {
	for name, change := range map[string]func(*Invocation){
		"another version": func(i *Invocation) { i.Version = "omega/invocation/v2" }, "no platform": func(i *Invocation) { i.Platform = Bytes32{} },
		"no agent": func(i *Invocation) { i.Instance = "" }, "no identity": func(i *Invocation) { i.Identity = Bytes32{} },
		"no input": func(i *Invocation) { i.Input = Bytes32{} }, "no output": func(i *Invocation) { i.Output = Bytes32{} },
		"no entry": func(i *Invocation) { i.LogLeaf = Bytes32{} }, "labels out of order": func(i *Invocation) { i.Labels = []string{"b", "a"} },
		"a label twice": func(i *Invocation) { i.Labels = []string{"a", "a"} }, "an empty label": func(i *Invocation) { i.Labels = []string{""} },
		"many labels": func(i *Invocation) { i.Labels = make([]string, 65) }, "a control character": func(i *Invocation) { i.Instance = "a\x1b" },
	} {
		i := goodInvocation()
		change(&i)
		b, err := json.Marshal(SignedInvocation{Statement: i})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseInvocation(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestInputAndOutputAreSaltedAndNotExchangeable(t *testing.T) {
	salt := Bytes16{1}
	if CommitInput(salt, []byte("x")) == CommitOutput(salt, []byte("x")) || CommitInput(salt, []byte("x")) == CommitInput(Bytes16{2}, []byte("x")) || CommitInput(salt, nil) == CommitInput(salt, []byte{0}) {
		t.Error("different data, salts or sides have one commitment")
	}
}

func FuzzParseInvocation(f *testing.F) {
	b, err := json.Marshal(published(f).Invocation)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		membound.Check(t, b, func() { _, _ = ParseInvocation(b) })
		if s, err := ParseInvocation(b); err == nil {
			_ = s.SignedBy([32]byte{1})
		}
	})
}

func FuzzParseRevocations(f *testing.F) {
	one := newRevoker(f)
	by := RevocationKeys{Keys: []dsse.Key{one.key}}
	f.Add(seal(f, goodList(), one))
	f.Fuzz(func(t *testing.T, b []byte) { membound.Check(t, b, func() { _, _ = ParseRevocations(b, by) }) })
}

// FuzzVouched gives a component's signature every payload: none is believed but
// the one that was signed, and nothing panics.
func FuzzVouched(f *testing.F) {
	f.Add([]byte("key"), []byte(`{"_type":"https://in-toto.io/Statement/v1"}`), []byte("sig"))
	f.Fuzz(func(t *testing.T, key, payload, sig []byte) {
		c := Component{Kind: "model", Digest: Bytes32{1}, Role: "model", Principal: "mia", Signatures: []Signature{{Key: key, Payload: payload, Sig: sig}}}
		if new(Voucher).Vouched(&c, Bytes32{2}) == nil {
			t.Error("a forged signature is believed")
		}
	})
}
