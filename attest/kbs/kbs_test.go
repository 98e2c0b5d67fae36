package kbs_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"omega/attest"
	"omega/attest/kbs"
	"omega/attest/kbs/kbstest"
	"omega/attest/kbs/rcar"
	"omega/attest/psp"
	"omega/attest/snp"
)

// testRoot is one emulated PSP for all tests: its RSA keys take seconds.
var testRoot = sync.OnceValues(func() (*psp.Root, error) {
	dir, err := os.MkdirTemp("", "omega-psp-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	return psp.LoadOrCreateRoot(filepath.Join(dir, "root"))
})

const (
	secretName = "kbs:///omega/model/weights"
	secret     = "the key of the model's weights."
)

// platform makes evidence as the guest's signer does.
type platform struct {
	t      *testing.T
	root   *psp.Root
	launch psp.Launch
	key    *rcar.Key
	nonce  string
	// over, if given, takes the place of the REPORT_DATA; edit changes the message.
	over func([64]byte) [64]byte
	edit func(body string) string
}

func (p *platform) AttestKey(_ context.Context, nonce string) ([]byte, uint64, error) {
	var err error
	if p.key, err = rcar.NewKey(rand.Reader); err != nil {
		return nil, 0, err
	}
	p.nonce = nonce
	data := rcar.RuntimeData{Nonce: nonce, Key: p.key.JWK()}
	reportData, err := data.ReportData()
	if err != nil {
		return nil, 0, err
	}
	if p.over != nil {
		reportData = p.over(reportData)
	}
	report, certs := p.report(reportData)
	body, err := data.Attestation(report, certs)
	if p.edit != nil {
		body = []byte(p.edit(string(body)))
	}
	return body, 7, err
}

func (p *platform) UnwrapKey(_ context.Context, key uint64, w rcar.Wrapped) ([32]byte, error) {
	if key != 7 {
		p.t.Errorf("unwrapping with key %d", key)
	}
	return p.key.Unwrap(w)
}

func (p *platform) report(data [64]byte) (report, certs []byte) {
	p.t.Helper()
	in := append([]byte("OPSP\x00\x00\x00\x40"), data[:]...)
	var out bytes.Buffer
	if err := p.root.Serve(p.t.Context(), readWriter{bytes.NewReader(in), &out}, p.launch); err != nil {
		p.t.Fatal(err)
	}
	b := out.Bytes()[4:]
	n := binary.BigEndian.Uint32(b)
	return b[4 : 4+n], b[8+n:]
}

type readWriter struct {
	*bytes.Reader
	out *bytes.Buffer
}

func (r readWriter) Write(b []byte) (int, error) { return r.out.Write(b) }

// world is a platform and a broker that agree on everything.
type world struct {
	platform *platform
	broker   *kbstest.Broker
	client   *kbs.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	root, err := testRoot()
	if err != nil {
		t.Fatal(err)
	}
	roots, err := snp.AMDRoots()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{platform: &platform{t: t, root: root, launch: psp.Launch{Digest: [48]byte{48}}}}
	policy := snp.DefaultPolicy()
	policy.Measurements = []attest.Bytes48{{48}}
	w.broker = &kbstest.Broker{
		Resources: map[string][]byte{"omega/model/weights": []byte(secret)}, Policy: policy, AMDRoots: roots, EmulatedRoot: root.ARK(),
	}
	server := httptest.NewTLSServer(w.broker)
	t.Cleanup(server.Close)
	w.client, err = kbs.New(server.URL, server.Client().Transport, w.platform)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestAnAttestedPlatformGetsTheSecret(t *testing.T) {
	w := newWorld(t)
	got, err := w.client.Get(t.Context(), secretName)
	if err != nil || string(got) != secret {
		t.Fatalf("got %q, %v", got, err)
	}
	var seen []string
	for _, m := range w.broker.Seen() {
		seen = append(seen, m.Method+" "+m.Path)
		if (m.Cookie == "") != (m.Path == "/kbs/v0/auth") {
			t.Errorf("%s with cookie %q", m.Path, m.Cookie)
		}
		if bytes.Contains(m.Body, []byte(secret)) {
			t.Error("the secret goes back")
		}
	}
	if want := []string{"POST /kbs/v0/auth", "POST /kbs/v0/attest", "GET /kbs/v0/resource/omega/model/weights"}; !slices.Equal(seen, want) {
		t.Errorf("messages %q, want %q", seen, want)
	}
}

// TestTheMessagesAreThePublishedOnes holds what is sent against the protocol as
// published: version and hash list from guest-components 8246e5e
// (attestation-agent/kbs_protocol/src/client), names of fields from kbs-types
// 0.15 (Request, Attestation, RuntimeData, CompositeEvidence, TeePubKey).
func TestTheMessagesAreThePublishedOnes(t *testing.T) {
	w := newWorld(t)
	if _, err := w.client.Get(t.Context(), secretName); err != nil {
		t.Fatal(err)
	}
	messages := w.broker.Seen()
	const auth = `{"version":"0.4.0","tee":"snp","extra-params":{"supported-hash-algorithms":["sha384"]}}`
	if got := string(messages[0].Body); got != auth {
		t.Errorf("request\n%s\nwant\n%s", got, auth)
	}
	var attestation struct {
		Runtime  map[string]any `json:"runtime-data"`
		Evidence map[string]any `json:"tee-evidence"`
	}
	d := json.NewDecoder(bytes.NewReader(messages[1].Body))
	d.DisallowUnknownFields()
	if err := d.Decode(&attestation); err != nil {
		t.Fatal(err)
	}
	key := attestation.Runtime["tee-pubkey"].(map[string]any)
	jwk := w.platform.key.JWK()
	want := map[string]any{"kty": "EC", "crv": "P-256", "alg": "ECDH-ES+A256KW", "x": jwk.X, "y": jwk.Y}
	if len(key) != len(want) || attestation.Runtime["nonce"] != w.platform.nonce || len(attestation.Runtime) != 2 {
		t.Errorf("runtime data %v", attestation.Runtime)
	}
	for name, v := range want {
		if key[name] != v {
			t.Errorf("tee-pubkey.%s is %v, want %v", name, key[name], v)
		}
	}
	if extra, ok := attestation.Evidence["additional_evidence"].(string); !ok || extra != "" || len(attestation.Evidence) != 2 {
		t.Errorf("evidence has %v", attestation.Evidence["additional_evidence"])
	}
	if messages[2].Body == nil || len(messages[2].Body) != 0 {
		t.Errorf("a resource is asked for with %d bytes", len(messages[2].Body))
	}
}

func TestTheBrokerReleasesNothingToOthers(t *testing.T) {
	tests := []struct {
		name   string
		change func(*world)
	}{
		{"an emulated platform, by default", func(w *world) { w.broker.EmulatedRoot = nil }},
		{"a platform under another root", func(w *world) { w.broker.EmulatedRoot = w.broker.AMDRoots[0].ARK }},
		{"another launch", func(w *world) { w.platform.launch.Digest[0]++ }},
		{"a debuggable guest", func(w *world) {
			w.platform.launch.GuestPolicy = uint64(snp.PolicyStrict | snp.PolicyDebug)
		}},
		{"a report over other runtime data", func(w *world) {
			w.platform.over = func(d [64]byte) [64]byte { d[0] ^= 1; return d }
		}},
		{"a report of Omega's own kind", func(w *world) {
			w.platform.over = func([64]byte) [64]byte { return attest.ReportData([32]byte{1}, [32]byte{2}) }
		}},
		{"a report with more behind the hash", func(w *world) {
			w.platform.over = func(d [64]byte) [64]byte { d[63] = 1; return d }
		}},
		{"another nonce", func(w *world) {
			w.platform.edit = func(s string) string {
				return strings.Replace(s, w.platform.nonce, strings.Repeat("A", 43)+"=", 1)
			}
		}},
		{"another key", func(w *world) {
			other, err := rcar.NewKey(rand.Reader)
			if err != nil {
				w.platform.t.Fatal(err)
			}
			w.platform.edit = func(s string) string {
				s = strings.Replace(s, w.platform.key.JWK().X, other.JWK().X, 1)
				return strings.Replace(s, w.platform.key.JWK().Y, other.JWK().Y, 1)
			}
		}},
		{"evidence of another device beside it", func(w *world) {
			w.platform.edit = func(s string) string {
				return strings.Replace(s, `"additional_evidence":""`, `"additional_evidence":"{}"`, 1)
			}
		}},
		{"another measurement in the message", func(w *world) {
			w.platform.edit = func(s string) string { return strings.Replace(s, `"measurement":[48,`, `"measurement":[49,`, 1) }
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.change(w)
			got, err := w.client.Get(t.Context(), secretName)
			if !errors.Is(err, kbs.ErrRefused) || got != nil || !strings.Contains(err.Error(), "AttestationError") {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// TestAnswersThatAreNotTheProtocolsAreRefused spoils one answer of an honest
// broker, field by field.
func TestAnswersThatAreNotTheProtocolsAreRefused(t *testing.T) {
	replace := func(old, with string) func(string) string {
		return func(s string) string {
			if !strings.Contains(s, old) {
				t.Fatalf("%q is not in %s", old, s)
			}
			return strings.Replace(s, old, with, 1)
		}
	}
	field := func(name string, f func(string) string) func(string) string {
		return func(s string) string {
			var m map[string]any
			if err := json.Unmarshal([]byte(s), &m); err != nil {
				t.Fatal(err)
			}
			m[name] = f(m[name].(string))
			b, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
	}
	head := func(old, with string) func(string) string {
		return func(s string) string {
			b, err := base64.RawURLEncoding.DecodeString(s)
			if err != nil {
				t.Fatal(err)
			}
			return base64.RawURLEncoding.EncodeToString([]byte(replace(old, with)(string(b))))
		}
	}
	flip := func(s string) string {
		c := byte('A')
		if s[4] == 'A' {
			c = 'B'
		}
		return s[:4] + string(c) + s[5:]
	}
	const auth, attestPath, resource = "/kbs/v0/auth", "/kbs/v0/attest", "/kbs/v0/resource/omega/model/weights"
	tests := []struct {
		name, path, want string
		spoil            func(string) string
	}{
		{"a nonce that is no base64", auth, "nonce", field("nonce", func(string) string { return `a","tee-pubkey":"b` })},
		{"a short nonce", auth, "nonce", field("nonce", func(string) string { return "AAAA" })},
		{"another hash", auth, "sha512", replace(`"extra-params":""`, `"extra-params":{"selected-hash-algorithm":"sha512"}`)},
		{"an unknown parameter", auth, "extra parameters", replace(`"extra-params":""`, `"extra-params":{"more":1}`)},
		{"a nonce twice", auth, "challenge", replace(`"nonce"`, `"nonce":"x","nonce"`)},
		{"no challenge", auth, "challenge", func(string) string { return "" }},
		{"no token", attestPath, "token", func(string) string { return `{}` }},
		{"a token of another form", attestPath, "token", func(string) string { return `{"token":"a b"}` }},
		{"another algorithm", resource, "algorithm", field("protected", head(`"ECDH-ES+A256KW"`, `"ECDH-ES"`))},
		{"another content encryption", resource, "content encryption", field("protected", head(`"A256GCM"`, `"A128GCM"`))},
		{"another curve", resource, "ephemeral key", field("protected", head(`"P-256"`, `"P-521"`))},
		{"a header that says more", resource, "unknown field", field("protected", head(`{"alg"`, `{"zip":"DEF","alg"`))},
		{"a header of another sealing", resource, "resource", field("protected", flip)},
		{"a changed key", resource, "changed", field("encrypted_key", flip)},
		{"a short key", resource, "encrypted key", field("encrypted_key", func(s string) string { return s[4:] })},
		{"a changed iv", resource, "not sealed", field("iv", flip)},
		{"a changed ciphertext", resource, "not sealed", field("ciphertext", flip)},
		{"a changed tag", resource, "not sealed", field("tag", flip)},
		{"a short tag", resource, "tag", field("tag", func(s string) string { return s[4:] })},
		{"other additional data", resource, "additional data", replace(`"tag"`, `"aad":"AAAA","tag"`)},
		{"an unknown field", resource, "unknown field", replace(`"tag"`, `"more":"AAAA","tag"`)},
		{"too much", resource, "more than", func(s string) string { return s + strings.Repeat(" ", rcar.MaxResponse) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.broker.Spoil = func(path string, status int, _ http.Header, body []byte) (int, []byte) {
				if path == tt.path {
					body = []byte(tt.spoil(string(body)))
				}
				return status, body
			}
			got, err := w.client.Get(t.Context(), secretName)
			if err == nil || got != nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, %v", got, err)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Error("the error tells the secret")
			}
		})
	}
}

func TestASessionIsOneAndKeepsItsName(t *testing.T) {
	for _, tt := range []struct{ path, cookie, want string }{
		{"/kbs/v0/auth", "", "a challenge without a session"},
		{"/kbs/v0/auth", "kbs-session-id=a", "a session with a name of another form"},
		{"/kbs/v0/attest", "kbs-session-id=0123456789abcdef", "another session in the middle of one"},
	} {
		w := newWorld(t)
		w.broker.Spoil = func(path string, status int, h http.Header, body []byte) (int, []byte) {
			if path == tt.path {
				h.Del("Set-Cookie")
				if tt.cookie != "" {
					h.Set("Set-Cookie", tt.cookie)
				}
			}
			return status, body
		}
		if _, err := w.client.Get(t.Context(), secretName); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %s", tt.cookie, err, tt.want)
		}
	}
}

func TestARefusalIsToldInTheBrokersWords(t *testing.T) {
	w := newWorld(t)
	_, err := w.client.Get(t.Context(), "kbs:///omega/model/other")
	if !errors.Is(err, kbs.ErrRefused) || !strings.Contains(err.Error(), `status 404, "InvalidRequestPath": "no such resource"`) {
		t.Errorf("error is %v", err)
	}
	w.broker.Spoil = func(_ string, _ int, h http.Header, _ []byte) (int, []byte) {
		h.Set("Location", "https://elsewhere.invalid/")
		return http.StatusTemporaryRedirect, []byte("\x1b[2J")
	}
	_, err = w.client.Get(t.Context(), secretName)
	if !errors.Is(err, kbs.ErrRefused) || !strings.Contains(err.Error(), "without a reason") {
		t.Errorf("a redirect: %v", err)
	}
}

func TestABrokerUnderAnotherCertificateIsNotAsked(t *testing.T) {
	w := newWorld(t)
	server := httptest.NewTLSServer(w.broker)
	defer server.Close()
	server.Config.ErrorLog = nil
	c, err := kbs.New(server.URL, &http.Transport{}, w.platform)
	if err != nil {
		t.Fatal(err)
	}
	var unknown x509.UnknownAuthorityError
	if _, err := c.Get(t.Context(), secretName); !errors.As(err, &unknown) || len(w.broker.Seen()) != 0 {
		t.Errorf("error %v, %d messages", err, len(w.broker.Seen()))
	}
}

func TestOnlyAnHTTPSBrokerAndAPlainResourceAreAskedFor(t *testing.T) {
	for _, base := range []string{"", "http://127.0.0.1", "https://", "https://u@h", "https://h/x", "https://h?x", "https://h#x"} {
		if _, err := kbs.New(base, nil, nil); err == nil {
			t.Errorf("broker %q is accepted", base)
		}
	}
	w := newWorld(t)
	for _, name := range []string{"", "omega/model/weights", "kbs://h/a/b/c", "kbs:///a/b", "kbs:///a/b/c/d", "kbs:///a/../c", "kbs:///a/b/c?x", "kbs:///a/b/%63"} {
		if _, err := w.client.Get(t.Context(), name); err == nil {
			t.Errorf("resource %q is accepted", name)
		}
	}
	if n := len(w.broker.Seen()); n != 0 {
		t.Errorf("%d messages", n)
	}
}
