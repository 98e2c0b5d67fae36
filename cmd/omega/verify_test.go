package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"omega/agentloader/bundle"
	"omega/attest"
	"omega/attest/psp"
	"omega/internal/strictjson"
	"omega/internal/vectors"
)

// pspRoot is one emulated PSP for all tests, which takes seconds to make.
var pspRoot = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "omega-verify-")
	if err != nil {
		return "", err
	}
	root := filepath.Join(dir, "psp")
	_, err = psp.LoadOrCreateRoot(root)
	return root, err
})

// TestMain removes what the tests share.
func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := pspRoot(); err == nil {
		_ = os.RemoveAll(filepath.Dir(dir))
	}
	os.Exit(code)
}

// platform is a server that answers as a guest's front does.
type platform struct {
	root     string // folder of the emulated PSP
	launch   psp.Launch
	tlsKey   [32]byte
	manifest string
	mangle   func([]byte) []byte // changes the evidence on its way
	agents   attest.AgentSet
	asked    attest.Request         // the last question
	lie      func(*attest.Evidence) // changes the evidence before it is signed
	// token, if given, is that of the only caller who is shown agents and the log.
	token      string
	authorized []string // the Authorization of each request
	hides      bool     // the last one was shown no agents
	log        *testLog
	api        http.Handler // what is below /v1/
	*httptest.Server
}

func newPlatform(t *testing.T) *platform {
	t.Helper()
	root, err := pspRoot()
	if err != nil {
		t.Fatal(err)
	}
	p := &platform{root: root, launch: psp.Launch{Digest: [48]byte{1}, Firmware: "seabios-1.16.3"}}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(p.serve))
	p.TLS = &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequestClientCert}
	p.StartTLS()
	t.Cleanup(p.Close)
	p.tlsKey = sha256.Sum256(p.Certificate().RawSubjectPublicKeyInfo)
	p.manifest = filepath.Join(t.TempDir(), "manifest.json")
	p.writeManifest(t)
	return p
}

func (p *platform) writeManifest(t *testing.T) {
	t.Helper()
	m := attest.Manifest{
		Type: attest.StatementType, PredicateType: attest.ReleasePredicate,
		Subject: []attest.Subject{{Name: "kernel"}},
		Predicate: attest.Release{
			Profile: "cpu", SVN: 1, Expires: mustTime(t, "2099-01-01T00:00:00Z"), PolicyDigest: attest.Bytes32{6}, Source: map[string]attest.Bytes32{},
			LaunchDigests: []attest.LaunchDigest{{VCPUs: 2, CPU: "EPYC-Milan", GuestFeatures: "0x1", Digest: p.launch.Digest}},
		},
	}
	b, err := strictjson.Canonical(m)
	if err != nil {
		t.Fatal(err)
	}
	writeTestFile(t, p.manifest, b)
}

func (p *platform) serve(w http.ResponseWriter, r *http.Request) {
	if p.api != nil && strings.HasPrefix(r.URL.Path, "/v1/") {
		p.api.ServeHTTP(w, r)
		return
	}
	req := attest.Request{Version: attest.RequestVersion}
	err := req.Nonce.UnmarshalText([]byte(r.URL.Query().Get("nonce")))
	if r.Method == http.MethodPost {
		body, _ := io.ReadAll(r.Body)
		var asked *attest.Request
		if asked, err = attest.ParseRequest(body); err == nil {
			req = *asked
		}
	}
	p.authorized = append(p.authorized, r.Header.Get("Authorization"))
	known := p.token == "" || r.Header.Get("Authorization") == "Bearer "+p.token
	if p.log != nil && strings.HasPrefix(r.URL.Path, "/log/") && known {
		p.log.ServeHTTP(w, r)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/log/") || !known && p.authorized[len(p.authorized)-1] != "" {
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	if r.URL.Path != "/.well-known/omega/evidence" || err != nil {
		http.Error(w, "no", http.StatusBadRequest)
		return
	}
	p.asked = req
	p.hides = !known
	b, err := p.answer(r.Context(), req)
	if errors.Is(err, attest.ErrNoSuchPart) {
		http.Error(w, "no", http.StatusNotFound)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if p.mangle != nil {
		b = p.mangle(b)
	}
	_, _ = w.Write(b)
}

// evidence is what an honest guest under the emulated PSP would make.
func (p *platform) evidence(ctx context.Context, nonce [32]byte) ([]byte, error) {
	return p.answer(ctx, attest.Request{Nonce: nonce})
}

// testAttestationKey is the attestation key of the platforms of these tests.
var testAttestationKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, 32))

func (p *platform) answer(ctx context.Context, req attest.Request) ([]byte, error) {
	nonces := attest.Nonces{req.Nonce}
	logKey := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	origin := "omega/" + strings.Repeat("0", 32)
	e := &attest.Evidence{
		Version: attest.EvidenceVersion,
		Boot: attest.BootClaims{
			AttestationKey: attest.Bytes32(testAttestationKey.Public().(ed25519.PublicKey)), Version: attest.BootVersion, TLSKey: p.tlsKey, LogOrigin: origin, PolicyDigest: attest.Bytes32{6}, Profile: "cpu", SVN: 1,
			GPU: attest.GPUAbsent, LogKey: attest.Bytes32(logKey.Public().(ed25519.PublicKey)),
		},
		Session: attest.Session{Version: attest.SessionVersion, NonceRoot: nonces.Root(), NonceCount: 1, AgentsRoot: p.agents.Root(), AgentCount: uint32(p.agents.Len())},
		Nonce:   nonces.Proofs()[0],
	}
	text := fmt.Sprintf("%s\n3\n%s\n", origin, base64.StdEncoding.EncodeToString(make([]byte, 32)))
	id := sha256.Sum256(append([]byte(origin+"\n\x01"), e.Boot.LogKey[:]...))
	e.Session.Checkpoint = fmt.Appendf(nil, "%s\n\u2014 %s %s\n", text, origin,
		base64.StdEncoding.EncodeToString(append(id[:4:4], ed25519.Sign(logKey, []byte(text))...)))
	if p.log != nil {
		e.Boot.LogKey, e.Boot.LogOrigin, e.Session.Checkpoint = attest.Bytes32(p.log.key.Public().(ed25519.PublicKey)), testOrigin, p.log.files["checkpoint"]
		if _, err := hex.Decode(e.Boot.BootID[:], []byte(strings.TrimPrefix(testOrigin, "omega/"))); err != nil {
			return nil, err
		}
	}
	view := attest.View{Visible: func(string) bool { return !p.hides }, Have: req.Have, Open: req.Open}
	if err := view.Show(e, p.agents); err != nil {
		return nil, err
	}
	if p.lie != nil {
		p.lie(e)
	}
	if view.Knows(e.Boot.Digest()) {
		message := attest.SessionMessage(e.Boot.Digest(), e.Session.Digest())
		e.Platform, e.Signature, e.Boot = e.Boot.Digest(), ed25519.Sign(testAttestationKey, message[:]), attest.BootClaims{}
		return e.Marshal()
	}
	root, err := psp.LoadOrCreateRoot(p.root)
	if err != nil {
		return nil, err
	}
	data := attest.ReportData(e.Boot.Digest(), e.Session.Digest())
	port := &memoryPort{in: bytes.NewReader(append([]byte("OPSP\x00\x00\x00\x40"), data[:]...))}
	if err := root.Serve(ctx, port, p.launch); err != nil {
		return nil, err
	}
	b := port.out.Bytes()[4:]
	n := binary.BigEndian.Uint32(b)
	e.Report, e.Certificates = b[4:4+n], b[8+n:]
	return e.Marshal()
}

// memoryPort is a virtio port with one request in it.
type memoryPort struct {
	in  io.Reader
	out bytes.Buffer
}

func (p *memoryPort) Read(b []byte) (int, error)  { return p.in.Read(b) }
func (p *memoryPort) Write(b []byte) (int, error) { return p.out.Write(b) }

func TestAnEmulatedPlatformIsRefusedUnlessItsRootIsNamed(t *testing.T) {
	p := newPlatform(t)
	code, out, words := omega(t, "verify", p.URL, "--manifest", p.manifest, "--manifest-unsigned")
	if code != exitSignature || !strings.Contains(out, "REFUSED") || !strings.Contains(words, "--allow-emulated") {
		t.Errorf("exit %d, stdout %q, stderr %q", code, out, words)
	}
	for _, root := range []string{p.root, filepath.Join(p.root, "ark.pem")} {
		code, out, words = omega(t, "verify", "--allow-emulated", root, p.URL, "--manifest", p.manifest, "--manifest-unsigned")
		if code != exitOK || !strings.Contains(out, "EMULATED") || !strings.Contains(out, "no hardware") || strings.Contains(out, "VERIFIED") {
			t.Errorf("exit %d, stdout %q, stderr %q", code, out, words)
		}
	}
	code, out, _ = omega(t, "verify", p.URL, "--allow-emulated", p.root, "--manifest", p.manifest, "--manifest-unsigned", "--json")
	var v verification
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != exitOK || v.Verdict != attest.VerdictEmulated || v.ManifestSigned {
		t.Errorf("exit %d, verdict %q, %v", code, v.Verdict, err)
	}
}

func TestAPlatformThatIsNotTheReleaseIsRefused(t *testing.T) {
	tests := []struct {
		name   string
		change func(t *testing.T, p *platform)
		want   int
		words  string
	}{
		{"another launch digest", func(_ *testing.T, p *platform) { p.launch.Digest[0]++ }, exitMismatch, "measurement"},
		{"somebody between us and it", func(_ *testing.T, p *platform) { p.tlsKey[0]++ }, exitMismatch, "tls_key"},
		{"a debuggable guest", func(_ *testing.T, p *platform) { p.launch.GuestPolicy = 0xb0000 }, exitMismatch, "guest_policy"},
		{"another launch config", func(_ *testing.T, p *platform) { p.launch.HostData = [32]byte{1} }, exitMismatch, "host_data"},
		{"another emulated PSP", func(_ *testing.T, p *platform) {
			p.mangle = func(b []byte) []byte { return bytes.Replace(b, []byte(`"report":"A`), []byte(`"report":"B`), 1) }
		}, exitSignature, "version"},
		{"garbage", func(_ *testing.T, p *platform) { p.mangle = func([]byte) []byte { return []byte("garbage") } }, exitSignature, "evidence"},
		{"too much", func(_ *testing.T, p *platform) {
			p.mangle = func([]byte) []byte { return make([]byte, attest.MaxEvidence+2) }
		}, exitSignature, "limit"},
		{"nothing", func(_ *testing.T, p *platform) { p.mangle = func([]byte) []byte { return nil } }, exitSignature, "evidence"},
		{"an answer to another question", func(_ *testing.T, p *platform) {
			p.mangle = func([]byte) []byte { b, _ := p.evidence(context.Background(), [32]byte{9}); return b }
		}, exitMismatch, "nonce"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlatform(t)
			tt.change(t, p)
			code, _, words := omega(t, "verify", p.URL, "--allow-emulated", p.root, "--manifest", p.manifest, "--manifest-unsigned")
			if code != tt.want || !strings.Contains(words, tt.words) {
				t.Errorf("exit %d, want %d; stderr %q", code, tt.want, words)
			}
		})
	}
}

func TestEvidenceInAFileNeedsItsNonce(t *testing.T) {
	p := newPlatform(t)
	b, err := p.evidence(t.Context(), [32]byte{5})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "evidence.json")
	writeTestFile(t, file, b)
	right, wrong := "05"+strings.Repeat("0", 62), "06"+strings.Repeat("0", 62)
	for _, tt := range []struct {
		nonce string
		want  int
	}{{right, exitOK}, {wrong, exitMismatch}, {"05", exitUsage}, {"", exitUsage}} {
		code, out, words := omega(t, "verify", file, "--nonce", tt.nonce, "--allow-emulated", p.root, "--manifest", p.manifest, "--manifest-unsigned")
		if code != tt.want {
			t.Errorf("nonce %q: exit %d, want %d; stderr %q", tt.nonce, code, tt.want, words)
		}
		if tt.want == exitOK && !strings.Contains(out, "says nothing about any connection") {
			t.Errorf("the missing connection is not named: %s", out)
		}
	}
}

func TestAManifestNeedsAReasonToBeTrusted(t *testing.T) {
	p := newPlatform(t)
	dir := filepath.Dir(p.manifest)
	manifest, err := os.ReadFile(p.manifest)
	if err != nil {
		t.Fatal(err)
	}
	key, other := filepath.Join(dir, "key.pem"), filepath.Join(dir, "other.pem")
	private := writeKeyPair(t, key)
	writeKeyPair(t, other)
	verify := func(args ...string) (int, string) {
		code, _, words := omega(t, append([]string{"verify", p.URL, "--allow-emulated", p.root}, args...)...)
		return code, words
	}
	if code, words := verify("--manifest", p.manifest); code != exitSignature || !strings.Contains(words, "--manifest-unsigned") {
		t.Errorf("unsigned: exit %d, %q", code, words)
	}
	if code, words := verify("--manifest", p.manifest, "--manifest-key", key); code != exitCollateral {
		t.Errorf("no signature: exit %d, %q", code, words)
	}
	writeTestFile(t, filepath.Join(dir, "manifest.dsse.json"), sealManifest(t, private, manifest))
	if code, words := verify("--manifest", p.manifest, "--manifest-key", key); code != exitOK {
		t.Errorf("signed: exit %d, %q", code, words)
	}
	if code, words := verify("--manifest", p.manifest, "--manifest-key", other); code != exitSignature {
		t.Errorf("another key: exit %d, %q", code, words)
	}
	writeTestFile(t, p.manifest, append(manifest, '\n'))
	if code, words := verify("--manifest", p.manifest, "--manifest-key", key); code != exitSignature {
		t.Errorf("another manifest: exit %d, %q", code, words)
	}
	t.Chdir(t.TempDir())
	if code, words := verify(); code != exitUsage || !strings.Contains(words, "no manifest") {
		t.Errorf("no manifest: exit %d, %q", code, words)
	}
	writeTestFile(t, filepath.Join("build", "cpu", "manifest.json"), manifest)
	if code, words := verify(); code != exitOK {
		t.Errorf("built here: exit %d, %q", code, words)
	}
}

func TestARawReportGivesTheExitCodesOfTheContract(t *testing.T) {
	dir := vectors.Dir(t)
	report := filepath.Join(dir, "snp", "turin", "turin_attestation_report.bin")
	vcek := filepath.Join(dir, "snp", "turin", "turin_vcek.pem")
	flipped := filepath.Join(t.TempDir(), "flipped.bin")
	b := vectors.Read(t, "snp", "turin", "turin_attestation_report.bin")
	b[0x90] ^= 1
	writeTestFile(t, flipped, b)
	policy := filepath.Join(t.TempDir(), "policy.json")
	writeTestFile(t, policy, []byte(`{"version":"omega/snp-policy/v1"}`))
	strict := filepath.Join(t.TempDir(), "strict.json")
	writeTestFile(t, strict, []byte(`{"version":"omega/snp-policy/v1","vmpl":1}`))
	pem := func(product, part string) []byte { return vectors.Read(t, "snp", product, product+"_"+part+".pem") }
	bundle, authorities, twoKeys := filepath.Join(t.TempDir(), "bundle"), filepath.Join(t.TempDir(), "authorities"), filepath.Join(t.TempDir(), "keys")
	writeTestFile(t, bundle, slices.Concat(pem("turin", "ark"), pem("turin", "vcek"), pem("turin", "ask")))
	writeTestFile(t, authorities, slices.Concat(pem("turin", "ask"), pem("turin", "ark")))
	writeTestFile(t, twoKeys, slices.Concat(pem("turin", "vcek"), pem("milan", "vcek")))
	at := "2026-06-01T00:00:00Z"
	tests := []struct {
		name string
		args []string
		want int
	}{
		{"AMD's roots by default", []string{"--report", report, "--vcek", vcek, "--at", at}, exitOK},
		{"the whole chain", []string{"--report", report, "--vcek", vcek, "--at", at, "--ask", filepath.Join(dir, "snp", "turin", "turin_ask.pem"), "--ark", filepath.Join(dir, "snp", "turin", "turin_ark.pem")}, exitOK},
		{"the whole chain in one file, in any order", []string{"--report", report, "--vcek", bundle, "--at", at}, exitOK},
		{"key and chain apart", []string{"--report", report, "--vcek", vcek, "--ask", authorities, "--at", at}, exitOK},
		{"only the chain's upper part", []string{"--report", report, "--vcek", authorities, "--at", at}, exitSignature},
		{"another chain beside it", []string{"--report", report, "--vcek", vcek, "--ask", filepath.Join(dir, "snp", "milan", "milan_ask.pem"), "--at", at}, exitSignature},
		{"two keys in one file", []string{"--report", report, "--vcek", twoKeys, "--at", at}, exitSignature},
		{"a root that is not there", []string{"--report", report, "--vcek", vcek, "--ark", policy + "x", "--at", at}, exitCollateral},
		{"a policy that it meets", []string{"--report", report, "--vcek", vcek, "--at", at, "--policy", policy}, exitOK},
		{"a policy that it does not meet", []string{"--report", report, "--vcek", vcek, "--at", at, "--policy", strict}, exitMismatch},
		{"a flipped bit", []string{"--report", flipped, "--vcek", vcek, "--at", at}, exitSignature},
		{"before its time", []string{"--report", report, "--vcek", vcek, "--at", "2020-01-01T00:00:00Z"}, exitSignature},
		{"another product's root", []string{"--report", report, "--vcek", vcek, "--at", at, "--ark", filepath.Join(dir, "snp", "milan", "milan_ark.pem")}, exitSignature},
		{"a certificate that is none", []string{"--report", report, "--vcek", policy, "--at", at}, exitSignature},
		{"no certificate", []string{"--report", report, "--at", at}, exitCollateral},
		{"a certificate that is not there", []string{"--report", report, "--vcek", policy + "x", "--at", at}, exitCollateral},
		{"no report", []string{"--vcek", vcek}, exitUsage},
		{"two signing keys", []string{"--report", report, "--vcek", vcek, "--vlek", vcek}, exitUsage},
		{"a time that is none", []string{"--report", report, "--vcek", vcek, "--at", "now"}, exitUsage},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, _, words := omega(t, append([]string{"verify", "snp"}, tt.args...)...)
			if code != tt.want {
				t.Errorf("exit %d, want %d; stderr %q", code, tt.want, words)
			}
		})
	}
}

// Each product of the vectors, whatever form its certificate has: the report
// verifies at the right time, and one bit of it or of the certificate makes that
// a 2 whose words say what was expected and what was found.
func TestRawReportsOfEveryProductKeepTheContract(t *testing.T) {
	for _, p := range []struct{ name, flag, report, leaf, product, at string }{
		{"Milan", "--vcek", "milan/milan_attestation_report.bin", "milan/milan_vcek.pem", "Milan", "2026-06-01T00:00:00Z"},
		{"Genoa", "--vcek", "genoa/genoa_attestation_report.bin", "genoa/genoa_vcek.pem", "Genoa", "2026-06-01T00:00:00Z"},
		{"Turin", "--vcek", "turin/turin_attestation_report.bin", "turin/turin_vcek.pem", "Turin", "2026-06-01T00:00:00Z"},
		{"a VLEK", "--vlek", "vlek-milan/test-vlek-report.bin", "vlek-milan/test-vlek.der", "Milan", "2025-06-01T00:00:00Z"},
	} {
		report, leaf := vectors.Read(t, "snp", p.report), vectors.Read(t, "snp", p.leaf)
		if block, _ := pem.Decode(leaf); block != nil {
			leaf = block.Bytes
		}
		armored := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf})
		verify := func(report, leaf []byte) (int, snpOutcome) {
			dir := t.TempDir()
			writeTestFile(t, filepath.Join(dir, "report"), report)
			writeTestFile(t, filepath.Join(dir, "leaf"), leaf)
			code, out, words := omega(t, "verify", "snp", "--json", "--report", filepath.Join(dir, "report"), p.flag, filepath.Join(dir, "leaf"), "--at", p.at)
			var got snpOutcome
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Fatalf("%s: %v: %s %s", p.name, err, out, words)
			}
			return code, got
		}
		for form, leaf := range map[string][]byte{"PEM": armored, "DER": leaf} {
			if code, got := verify(report, leaf); code != exitOK || got.Verdict != attest.VerdictVerified || string(got.Product) != p.product {
				t.Errorf("%s, %s: exit %d, %+v", p.name, form, code, got)
			}
		}
		for at := 7; at < 8*len(report); at += 1201 {
			changed := bytes.Clone(report)
			changed[at/8] ^= 1 << (at % 8)
			code, got := verify(changed, armored)
			if code != exitSignature || got.Verdict != attest.VerdictRefused || len(got.Checks) != 1 || got.Checks[0].Expected == "" || got.Checks[0].Found == "" {
				t.Errorf("%s, bit %d: exit %d, %+v", p.name, at, code, got)
			}
		}
		for at := 8 * 40; at < 8*len(leaf); at += 1201 {
			changed := bytes.Clone(leaf)
			changed[at/8] ^= 1 << (at % 8)
			if code, got := verify(report, changed); code != exitSignature || got.Verdict != attest.VerdictRefused {
				t.Errorf("%s, bit %d of its certificate: exit %d, %+v", p.name, at, code, got)
			}
		}
	}
}

func writeTestFile(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func writeKeyPair(t *testing.T, path string) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	writeTestFile(t, path, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	return key
}

func sealManifest(t *testing.T, key *ecdsa.PrivateKey, manifest []byte) []byte {
	t.Helper()
	sum := sha256.Sum256(bundle.PAE(bundle.TypePayload, manifest))
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(bundle.Envelope{PayloadType: bundle.TypePayload, Payload: manifest, Signatures: []bundle.Signature{{Sig: sig}}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
