package compile

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"omega/policy"
)

// callersDir is a folder with a key file and sets of an identity provider.
func callersDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, v any) {
		b, ok := v.([]byte)
		if !ok {
			var err error
			if b, err = json.Marshal(map[string]any{"keys": v}); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pub, err := os.ReadFile("testdata/keys/acme.pub")
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := ec.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	ecKey := map[string]any{"kty": "EC", "kid": "e1", "crv": "P-256", "alg": "ES256", "use": "sig", "x": b64(point[1:33]), "y": b64(point[33:]), "x5t": "not read"}
	write("ops.pub", pub)
	write("good.json", []any{map[string]any{"kty": "oct", "kid": "h"}, map[string]any{"kty": "EC", "kid": "p", "crv": "P-521"}, ecKey})
	write("private.json", []any{map[string]any{"kty": "EC", "kid": "e", "crv": "P-256", "d": "AAAA"}})
	write("short.json", []any{map[string]any{"kty": "RSA", "kid": "r", "n": b64(small.N.Bytes()), "e": "AQAB"}})
	write("none.json", []any{map[string]any{"kty": "RSA", "kid": "r", "use": "enc"}})
	write("off.json", []any{map[string]any{"kty": "EC", "kid": "e", "crv": "P-256", "x": b64(make([]byte, 32)), "y": b64(make([]byte, 32))}})
	write("twice.json", []any{ecKey, ecKey})
	return dir
}

const goodCallers = head + `callers:
  - {name: ops, key: ops.pub, rights: [observe, deploy], agents: ["*"]}
  - name: ci
    oidc: {issuer: "https://id.example", audience: omega, subject: "repo:acme/*", jwks: good.json}
    rights: [invoke]
    agents: [report-*]
  - {name: public, anonymous: true, rights: [observe], agents: [open-*]}
  - {name: platforms, peers: true, rights: [observe, output], agents: [shared]}
`

func TestCallersAreReadWithTheirKeys(t *testing.T) {
	dir := callersDir(t)
	out, err := Compile([]byte(goodCallers), dir)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := policy.ParseJSON(out.JSON)
	if err != nil {
		t.Fatal(err)
	}
	c := doc.EffectiveCallers()
	if len(c) != 4 || !c[3].Peers || c[3].Anonymous || c[3].Rights[1] != policy.RightOutput || len(c[0].Keys) != 1 || !strings.Contains(c[0].Keys[0].PEM, "PUBLIC KEY") {
		t.Fatalf("callers %+v", c)
	}
	if o := c[1].OIDC; o == nil || len(o.Keys) != 1 || o.Keys[0].ID != "e1" || o.Subject != "repo:acme/*" {
		t.Errorf("identity provider %+v", c[1].OIDC)
	}
	if _, err := c[1].OIDC.Keys[0].PublicKey(); err != nil {
		t.Error(err)
	}
}

func TestAPolicyWithoutCallersLetsEverybodyObserveAndIsTheSameAsBefore(t *testing.T) {
	out, err := Compile([]byte(head), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out.JSON), "callers") {
		t.Errorf("the document names callers: %s", out.JSON)
	}
	c := out.Document.EffectiveCallers()
	if len(c) != 1 || !c[0].Anonymous || len(c[0].Rights) != 1 || c[0].Rights[0] != policy.RightObserve {
		t.Errorf("default callers %+v", c)
	}
}

func TestFaultsOfCallersNameTheirPlace(t *testing.T) {
	dir := callersDir(t)
	oidc := func(s string) string {
		return head + "callers:\n  - {name: c, rights: [invoke], agents: ['*'], oidc: {" + s + "}}\n"
	}
	const good = `issuer: "https://i.example", audience: a, subject: s, jwks: good.json`
	for _, tt := range []struct{ name, yaml, want string }{
		{"nothing to know it by", head + "callers:\n  - {name: c, rights: [observe], agents: ['*']}\n", "policy.yaml:4:5: callers[0]: 0 ways"},
		{"two ways", head + "callers:\n  - {name: c, key: ops.pub, anonymous: true, rights: [observe], agents: ['*']}\n", "policy.yaml:4:5: callers[0]: 2 ways"},
		{"peers and a key", head + "callers:\n  - {name: c, key: ops.pub, peers: true, rights: [observe], agents: ['*']}\n", "policy.yaml:4:5: callers[0]: 2 ways"},
		{"everybody and peers", head + "callers:\n  - {name: c, peers: true, anonymous: true, rights: [observe], agents: ['*']}\n", "policy.yaml:4:5: callers[0]: 2 ways"},
		{"two callers of one key", head + "callers:\n  - {name: c, key: ops.pub, rights: [observe], agents: ['*']}\n  - {name: d, key: ops.pub, rights: [observe], agents: ['*']}\n", "policy.yaml:5:5: callers[1].keys[0]: the key of two callers"},
		{"two of one name", head + "callers:\n  - {name: c, key: ops.pub, rights: [observe], agents: ['*']}\n  - {name: c, anonymous: true, rights: [observe], agents: ['*']}\n", `policy.yaml:5:12: callers[1].name: "c" is named twice`},
		{"an unknown right", head + "callers:\n  - {name: c, anonymous: true, rights: [observer], agents: ['*']}\n", `policy.yaml:4:41: callers[0].rights[0]: "observer" is no right`},
		{"a right twice", head + "callers:\n  - {name: c, anonymous: true, rights: [observe, observe], agents: ['*']}\n", "policy.yaml:4:50: callers[0].rights[1]"},
		{"no right", head + "callers:\n  - {name: c, anonymous: true, rights: [], agents: ['*']}\n", "policy.yaml:4:40: callers[0].rights: no right"},
		{"no agent", head + "callers:\n  - {name: c, anonymous: true, rights: [observe]}\n", "policy.yaml:4:5: callers[0].agents: no agent"},
		{"a bad glob", head + "callers:\n  - {name: c, anonymous: true, rights: [observe], agents: ['[']}\n", "policy.yaml:4:60: callers[0].agents[0]"},
		{"an unknown field", head + "callers:\n  - {name: c, anonymus: true, rights: [observe], agents: ['*']}\n", `policy.yaml:4:15: unknown field "anonymus"`},
		{"no such key", head + "callers:\n  - {name: c, key: no.pub, rights: [observe], agents: ['*']}\n", "policy.yaml:4:20: callers[0].key"},
		{"key and keys", head + "callers:\n  - {name: c, key: ops.pub, keys: [ops.pub], rights: [observe], agents: ['*']}\n", "give key or keys"},
		{"an issuer in the clear", oidc(strings.Replace(good, "https", "http", 1)), "callers[0].oidc.issuer"},
		{"no audience", oidc(strings.Replace(good, "audience: a", `audience: ""`, 1)), "callers[0].oidc.audience"},
		{"no subject", oidc(strings.Replace(good, "subject: s", `subject: ""`, 1)), "callers[0].oidc.subject"},
		{"no keys", oidc(strings.Replace(good, "good.json", "nowhere.json", 1)), "callers[0].oidc.jwks"},
		{"a private key", oidc(strings.Replace(good, "good.json", "private.json", 1)), "is private"},
		{"a short key", oidc(strings.Replace(good, "good.json", "short.json", 1)), "RSA key of 1024 bits"},
		{"no key that signs", oidc(strings.Replace(good, "good.json", "none.json", 1)), "none that signs"},
		{"a key off its curve", oidc(strings.Replace(good, "good.json", "off.json", 1)), "callers[0].oidc.jwks"},
		{"two keys of one id", oidc(strings.Replace(good, "good.json", "twice.json", 1)), "there twice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Compile([]byte(tt.yaml), dir)
			if want := strings.Replace(tt.want, "policy.yaml", filepath.Join(dir, "policy.yaml"), 1); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got\n%v\nwant a fault with\n%s", err, want)
			}
		})
	}
}
