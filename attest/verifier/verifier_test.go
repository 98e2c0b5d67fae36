package verifier_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"omega/attest"
	"omega/attest/measure"
	"omega/attest/psp"
	"omega/attest/snp"
	"omega/attest/verifier"
	"omega/internal/vectors"
)

var logKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))

// testRoot is one emulated PSP for all tests: its RSA keys take seconds.
var testRoot = sync.OnceValues(func() (*psp.Root, error) {
	dir, err := os.MkdirTemp("", "omega-psp-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	return psp.LoadOrCreateRoot(filepath.Join(dir, "root"))
})

// world is a platform and a Verifier that agree on everything.
type world struct {
	t      testing.TB
	root   *psp.Root
	e      *attest.Evidence
	p      verifier.Params
	launch psp.Launch
}

func newWorld(t testing.TB) *world {
	t.Helper()
	root, err := testRoot()
	if err != nil {
		t.Fatal(err)
	}
	roots, err := snp.AMDRoots()
	if err != nil {
		t.Fatal(err)
	}
	tlsKey := [32]byte{4}
	w := &world{t: t, root: root, launch: psp.Launch{Digest: [48]byte{48}, Firmware: "seabios-1.16.3"}}
	w.p = verifier.Params{
		Nonce: [32]byte{1}, TLSKey: &tlsKey, Manifest: manifest(w.launch.Digest), AMDRoots: roots,
		EmulatedRoot: root.ARK(), Now: time.Now(), Report: snp.DefaultPolicy(), MinSVN: 1,
	}
	w.e = &attest.Evidence{
		Version: attest.EvidenceVersion,
		Boot: attest.BootClaims{
			Version: attest.BootVersion, BootID: [16]byte{1, 2}, AttestationKey: attest.Bytes32(attestationKey.Public().(ed25519.PublicKey)), LogKey: attest.Bytes32(logKey.Public().(ed25519.PublicKey)),
			TLSKey: tlsKey, HPKEKey: [32]byte{5}, LogOrigin: "omega/" + hex.EncodeToString(append([]byte{1, 2}, make([]byte, 14)...)),
			PolicyDigest: [32]byte{6}, ConfigDigest: [32]byte{8}, Profile: "cpu", SVN: 1, GPU: attest.GPUAbsent,
		},
		Session: attest.Session{Version: attest.SessionVersion},
		Nonce:   attest.Nonces{w.p.Nonce}.Proofs()[0],
		Agents:  []attest.Agent{agent("a-1", 0), agent("a-2", 1)},
	}
	w.seal()
	return w
}

func manifest(digest [48]byte) *attest.Manifest {
	return &attest.Manifest{Predicate: attest.Release{
		Profile: "cpu", SVN: 1, Expires: time.Now().AddDate(0, 1, 0), PolicyDigest: [32]byte{6},
		LaunchDigests: []attest.LaunchDigest{{VCPUs: 2, CPU: "EPYC-Milan", Digest: digest}},
	}}
}

func agent(instance string, index uint32) attest.Agent {
	bundle, model := attest.Bytes32{9}, attest.Bytes32{10, byte(index)}
	author := []attest.Signature{ann.vouch(bundle, "author", "ann")}
	c := []attest.Component{
		{Kind: "manifest", Name: "agent.json", Digest: bundle, Role: "author", Principal: "ann", Signatures: author, Salt: [16]byte{1, byte(index)}},
		{Kind: "policy", Name: "policy", Digest: [32]byte{6}, Salt: [16]byte{2, byte(index)}},
		{Kind: "image", Name: "demo", Digest: [32]byte{11}, Role: "author", Principal: "ann", Signatures: author, Salt: [16]byte{3, byte(index)}},
		{Kind: "model", Name: "llama", Digest: model, Role: "model", Principal: "mia", Signatures: []attest.Signature{mia.vouch(model, "model", "mia")}, Salt: [16]byte{4, byte(index)}},
	}
	return attest.Agent{Instance: instance, Index: index, State: attest.AgentRunning, Name: "demo", Bundle: bundle, Salt: [16]byte{5, byte(index)},
		Identity: attest.IdentityRoot(c), Components: c}
}

// sameAgent is the first agent, made once: who signs takes its time.
var sameAgent = sync.OnceValue(func() attest.Agent { return agent("a", 0) })

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// seal makes the session statement match the rest, as an honest signer would.
func (w *world) seal() {
	nonces := attest.Nonces{w.e.Nonce.Nonce}
	w.e.Session.NonceRoot, w.e.Session.NonceCount = nonces.Root(), 1
	w.e.Session.AgentsRoot, w.e.Session.AgentCount = attest.AgentsRoot(w.e.Agents), uint32(len(w.e.Agents))
	w.e.Session.Checkpoint = signNote(w.e.Boot.LogOrigin, logKey, fmt.Sprintf("%s\n3\n%s\n", w.e.Boot.LogOrigin, base64.StdEncoding.EncodeToString(make([]byte, 32))))
	w.sign()
}

func signNote(origin string, key ed25519.PrivateKey, text string) []byte {
	id := sha256.Sum256(append([]byte(origin+"\n\x01"), key.Public().(ed25519.PublicKey)...))
	sig := append(id[:4:4], ed25519.Sign(key, []byte(text))...)
	return fmt.Appendf(nil, "%s\n\u2014 %s %s\n", text, origin, base64.StdEncoding.EncodeToString(sig))
}

// sign asks the emulated PSP for a report over the claims as they are.
func (w *world) sign() {
	w.t.Helper()
	data := attest.ReportData(w.e.Boot.Digest(), w.e.Session.Digest())
	in := append([]byte("OPSP\x00\x00\x00\x40"), data[:]...)
	var out bytes.Buffer
	if err := w.root.Serve(w.t.Context(), readWriter{bytes.NewReader(in), &out}, w.launch); err != nil {
		w.t.Fatal(err)
	}
	b := out.Bytes()[4:]
	n := binary.BigEndian.Uint32(b)
	w.e.Report, w.e.Certificates = b[4:4+n], b[8+n:]
}

type readWriter struct {
	*bytes.Reader
	out *bytes.Buffer
}

func (r readWriter) Write(b []byte) (int, error) { return r.out.Write(b) }

// failed is the name of the first check that failed, and more than that where
// one of them does not say what was expected and what was found instead.
func failed(r *attest.Result) string {
	first := ""
	for _, c := range r.Checks {
		if c.Status == attest.Failed && (c.Expected == "" || c.Found == "" || c.Words == "") {
			return fmt.Sprintf("%s, which says nothing of what was expected, or found: %+v", c.Name, c)
		}
		if c.Status == attest.Failed && first == "" {
			first = c.Name
		}
	}
	return first
}

func TestHonestEvidenceOfAnEmulatedPSPIsEmulatedAndNeverVerified(t *testing.T) {
	w := newWorld(t)
	r, err := verifier.Appraise(w.e, w.p)
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != attest.VerdictEmulated {
		t.Errorf("verdict is %s", r.Verdict)
	}
	unproven := map[string]bool{}
	for _, c := range r.Checks {
		if c.Status == attest.NotProven {
			unproven[c.Name] = true
		}
	}
	for _, name := range []string{"time", "rollback", "remote", "host_data", "firmware"} {
		if !unproven[name] {
			t.Errorf("%s is not named as unproven", name)
		}
	}
}

// TestALyingPlatformIsRefused changes what the platform claims and lets it sign
// the lie, or changes what the Verifier expects.
func TestALyingPlatformIsRefused(t *testing.T) {
	tests := []struct {
		name  string
		lie   func(*world)
		class error
		check string
	}{
		{"another nonce", func(w *world) { w.e.Nonce.Nonce[0]++ }, verifier.ErrMismatch, "nonce"},
		{"no nonce", func(w *world) { w.e.Nonce.Nonce, w.p.Nonce = attest.Bytes32{}, [32]byte{} }, verifier.ErrMismatch, "nonce"},
		{"another TLS key", func(w *world) { w.e.Boot.TLSKey[0]++ }, verifier.ErrMismatch, "tls_key"},
		{"no TLS key", func(w *world) { w.e.Boot.TLSKey = attest.Bytes32{}; w.p.TLSKey = new([32]byte) }, verifier.ErrMismatch, "tls_key"},
		{"another launch", func(w *world) { w.launch.Digest[0]++ }, verifier.ErrMismatch, "measurement"},
		{"another policy", func(w *world) { w.e.Boot.PolicyDigest[0]++ }, verifier.ErrMismatch, "policy"},
		{"another profile", func(w *world) { w.e.Boot.Profile = "debug" }, verifier.ErrMismatch, "profile"},
		{"a debug release", func(w *world) { w.e.Boot.Profile, w.p.Manifest.Predicate.Profile = "debug", "debug" }, verifier.ErrMismatch, "debug"},
		{"an older release", func(w *world) { w.p.MinSVN = 2 }, verifier.ErrMismatch, "svn"},
		{"another SVN", func(w *world) { w.e.Boot.SVN = 2 }, verifier.ErrMismatch, "svn"},
		{"an expired manifest", func(w *world) { w.p.Manifest.Predicate.Expires = time.Now().Add(-time.Hour) }, verifier.ErrSignature, "expiry"},
		{"another launch config", func(w *world) { w.launch.HostData = [32]byte{9} }, verifier.ErrMismatch, "host_data"},
		{"a debuggable guest", func(w *world) { w.launch.GuestPolicy = uint64(snp.PolicyStrict | snp.PolicyDebug) }, verifier.ErrMismatch, "guest_policy"},
		{"a guest that may move", func(w *world) { w.launch.GuestPolicy = uint64(snp.PolicyStrict | snp.PolicyMigrateMA) }, verifier.ErrMismatch, "guest_policy"},
		{"another VMPL", func(w *world) { w.p.Report.VMPL = 1 }, verifier.ErrMismatch, "vmpl"},
		{"a TCB below the floor", func(w *world) { w.p.Report.MinTCB[0].TCB = 0xdc18000000000004 }, verifier.ErrMismatch, "tcb"},
		{"no TCB floor", func(w *world) { w.p.Report = snp.Policy{} }, verifier.ErrMismatch, "tcb"},
		{"an agent whose identity is another", func(w *world) { w.e.Agents[0].Identity[0]++ }, verifier.ErrMismatch, "agent a-1"},
		{"an agent whose component is another", func(w *world) { w.e.Agents[0].Components[0].Name += "x" }, verifier.ErrMismatch, "agent a-1"},
		{"an agent that shows no components", func(w *world) { w.e.Agents[1].Components, w.e.Agents[1].Identity = nil, attest.IdentityRoot(nil) }, verifier.ErrMismatch, "agent a-2"},
		{"an agent under another policy", func(w *world) {
			w.e.Agents[1].Components[1].Digest[0]++
			reseal(&w.e.Agents[1])
		}, verifier.ErrMismatch, "agent a-2"},
		{"an agent without a bundle", func(w *world) { w.e.Agents[0].Bundle = attest.Bytes32{} }, verifier.ErrMismatch, "agent a-1"},
		{"two agents of one name", func(w *world) { w.e.Agents[1].Instance = "a-1" }, verifier.ErrMismatch, "agent a-1"},
		{"a nonce that is not among those of the session", func(w *world) { w.e.Nonce.Index = 1 }, verifier.ErrMismatch, "nonce"},
		{"agents out of order", func(w *world) { w.e.Agents[0].Index, w.e.Agents[1].Index = 1, 0 }, verifier.ErrMismatch, "agents"},
		{"a GPU without evidence", func(w *world) { w.e.Boot.GPU = attest.GPUReady }, verifier.ErrMismatch, "gpu"},
		{"evidence of a GPU that is absent", func(w *world) { w.e.Boot.GPUEvidence[0]++ }, verifier.ErrMismatch, "gpu"},
		{"a GPU of no known state", func(w *world) { w.e.Boot.GPU = "" }, verifier.ErrMismatch, "gpu"},
		{"the log of another boot", func(w *world) { w.e.Boot.LogOrigin = "omega/0" }, verifier.ErrMismatch, "log"},
		{"another log key", func(w *world) { w.e.Boot.LogKey[0]++ }, verifier.ErrMismatch, "log"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.lie(w)
			w.seal()
			r, err := verifier.Appraise(w.e, w.p)
			if !errors.Is(err, tt.class) || failed(r) != tt.check || r.Verdict != attest.VerdictRefused {
				t.Errorf("verdict %s, failed check %q, error %v", r.Verdict, failed(r), err)
			}
		})
	}
}

// TestEvidenceChangedOnItsWayIsRefused changes one thing after it was signed.
func TestEvidenceChangedOnItsWayIsRefused(t *testing.T) {
	for name, change := range map[string]func(*attest.Evidence){
		"boot id":         func(e *attest.Evidence) { e.Boot.BootID[15] ^= 1 },
		"attestation key": func(e *attest.Evidence) { e.Boot.AttestationKey[31] ^= 1 },
		"log key":         func(e *attest.Evidence) { e.Boot.LogKey[31] ^= 1 },
		"TLS key":         func(e *attest.Evidence) { e.Boot.TLSKey[31] ^= 1 },
		"HPKE key":        func(e *attest.Evidence) { e.Boot.HPKEKey[31] ^= 1 },
		"log origin":      func(e *attest.Evidence) { e.Boot.LogOrigin += "0" },
		"policy digest":   func(e *attest.Evidence) { e.Boot.PolicyDigest[31] ^= 1 },
		"config digest":   func(e *attest.Evidence) { e.Boot.ConfigDigest[31] ^= 1 },
		"profile":         func(e *attest.Evidence) { e.Boot.Profile = "cpv" },
		"SVN":             func(e *attest.Evidence) { e.Boot.SVN ^= 1 },
		"GPU":             func(e *attest.Evidence) { e.Boot.GPU = attest.GPURefused },
		"GPU evidence":    func(e *attest.Evidence) { e.Boot.GPUEvidence[31] ^= 1 },
		"nonce":           func(e *attest.Evidence) { e.Nonce.Nonce[31] ^= 1 },
		"nonce root":      func(e *attest.Evidence) { e.Session.NonceRoot[31] ^= 1 },
		"nonce count":     func(e *attest.Evidence) { e.Session.NonceCount++ },
		"checkpoint":      func(e *attest.Evidence) { e.Session.Checkpoint[40] ^= 1 },
		"agents root":     func(e *attest.Evidence) { e.Session.AgentsRoot[31] ^= 1 },
		"agent count":     func(e *attest.Evidence) { e.Session.AgentCount++ },
		"session GPU":     func(e *attest.Evidence) { e.Session.GPUEvidence[31] ^= 1 },
		"an agent less":   func(e *attest.Evidence) { e.Agents = e.Agents[:1] },
		"agent's state":   func(e *attest.Evidence) { e.Agents[0].State = attest.AgentExited },
		"agent's name":    func(e *attest.Evidence) { e.Agents[0].Name = "other" },
		"agent's bundle":  func(e *attest.Evidence) { e.Agents[0].Bundle[31] ^= 1 },
		"agent's index":   func(e *attest.Evidence) { e.Agents[1].Index = 7 },
		"a principal":     func(e *attest.Evidence) { e.Agents[0].Components[0].Principal = "bob" },
		"a role":          func(e *attest.Evidence) { e.Agents[0].Components[0].Role = "tool" },
		"agent's salt":    func(e *attest.Evidence) { e.Agents[0].Salt[0] ^= 1 },
		"a salt":          func(e *attest.Evidence) { e.Agents[0].Components[0].Salt[0] ^= 1 },
	} {
		w := newWorld(t)
		change(w.e)
		if r, err := verifier.Appraise(w.e, w.p); err == nil || r.Verdict != attest.VerdictRefused {
			t.Errorf("%s: verdict %s, error %v", name, r.Verdict, err)
		}
	}
}

func TestEveryChangedByteOfReportAndCertificateIsRefused(t *testing.T) {
	w := newWorld(t)
	table, err := snp.ParseTable(w.e.Certificates)
	if err != nil {
		t.Fatal(err)
	}
	for i := range w.e.Report {
		w.e.Report[i] ^= 1
		if _, err := verifier.Appraise(w.e, w.p); !errors.Is(err, verifier.ErrSignature) {
			t.Fatalf("byte %#x of the report: %v", i, err)
		}
		w.e.Report[i] ^= 1
	}
	for i := 0; i < len(table.VCEK); i += 3 {
		bad := *table
		bad.VCEK = bytes.Clone(table.VCEK)
		bad.VCEK[i] ^= 1
		w.e.Certificates = bad.Marshal()
		if _, err := verifier.Appraise(w.e, w.p); !errors.Is(err, verifier.ErrSignature) {
			t.Fatalf("byte %d of the VCEK: %v", i, err)
		}
	}
}

func TestRootsAreNotMixed(t *testing.T) {
	milan := vectors.Read(t, "snp", "milan", "milan_attestation_report.bin")
	vcek, err := snp.ParseCertificate(vectors.Read(t, "snp", "milan", "milan_vcek.pem"))
	if err != nil {
		t.Fatal(err)
	}
	renamed := bytes.Clone(milan)
	copy(renamed[0x10:], "omega-emulated\x00\x00")
	amdTable := (&snp.Table{VCEK: vcek.Raw}).Marshal()
	tests := []struct {
		name   string
		change func(*world)
		want   error
	}{
		{"an emulated report without its root", func(w *world) { w.p.EmulatedRoot = nil }, verifier.ErrEmulated},
		{"an emulated report under AMD's root", func(w *world) { w.p.EmulatedRoot = w.p.AMDRoots[0].ARK }, verifier.ErrSignature},
		{"AMD's report that calls itself emulated", func(w *world) { w.e.Report, w.e.Certificates = renamed, amdTable }, verifier.ErrSignature},
		{"an emulated report that calls itself AMD's", func(w *world) { copy(w.e.Report[0x10:], make([]byte, 16)) }, verifier.ErrSignature},
		{"no certificate", func(w *world) { w.e.Certificates = nil }, verifier.ErrCollateral},
		{"a broken table", func(w *world) { w.e.Certificates = []byte{1} }, verifier.ErrSignature},
		{"expired certificates", func(w *world) { w.p.Now = w.p.Now.AddDate(50, 0, 0) }, verifier.ErrSignature},
		{"AMD's report over other claims", func(w *world) { w.e.Report, w.e.Certificates = milan, amdTable }, verifier.ErrMismatch},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.change(w)
			r, err := verifier.Appraise(w.e, w.p)
			if !errors.Is(err, tt.want) || r.Verdict != attest.VerdictRefused {
				t.Errorf("verdict %s, error %v", r.Verdict, err)
			}
		})
	}
}

func TestAMDsRootIsNoRootForEmulatedReports(t *testing.T) {
	w := newWorld(t)
	w.p.EmulatedRoot = w.p.AMDRoots[0].ARK
	if _, err := verifier.Appraise(w.e, w.p); err == nil || !strings.Contains(err.Error(), "is AMD's") {
		t.Errorf("error is %v", err)
	}
}

func TestAChangedByteInKernelInitrdOrCommandLineIsRefused(t *testing.T) {
	kernel, initrd, cmdline := []byte("kernel"), []byte("initrd"), "console=ttyS0"
	digest := func(k, i []byte, c string) [48]byte {
		d, err := measure.LaunchDigest(measure.Input{
			OVMF:   vectors.Read(t, "launch-digest", "ovmf_AmdSev_suffix.bin"),
			Kernel: measure.Bytes(k), Initrd: measure.Bytes(i), Cmdline: measure.Cmdline(c),
			VCPUs: 2, CPU: "EPYC-Milan", VMM: measure.QEMU, GuestFeatures: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for name, launched := range map[string][48]byte{
		"":             digest(kernel, initrd, cmdline),
		"kernel":       digest([]byte("kerneL"), initrd, cmdline),
		"initrd":       digest(kernel, []byte("initrD"), cmdline),
		"command line": digest(kernel, initrd, cmdline+" "),
	} {
		w := newWorld(t)
		w.p.Manifest = manifest(digest(kernel, initrd, cmdline))
		w.launch.Digest = launched
		w.seal()
		r, err := verifier.Appraise(w.e, w.p)
		if name == "" && err != nil {
			t.Errorf("unchanged: %v", err)
		}
		if name != "" && (!errors.Is(err, verifier.ErrMismatch) || failed(r) != "measurement") {
			t.Errorf("%s: failed check %q, error %v", name, failed(r), err)
		}
	}
}

func TestCheckpointsAreStrict(t *testing.T) {
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, 32))
	w := newWorld(t)
	origin, root := w.e.Boot.LogOrigin, base64.StdEncoding.EncodeToString(make([]byte, 32))
	for name, cp := range map[string][]byte{
		"nothing":            nil,
		"another key":        signNote(origin, other, origin+"\n3\n"+root+"\n"),
		"another origin":     signNote("omega/x", logKey, "omega/x\n3\n"+root+"\n"),
		"origin in the text": signNote(origin, logKey, "omega/x\n3\n"+root+"\n"),
		"an extension line":  signNote(origin, logKey, origin+"\n3\n"+root+"\nmore\n"),
		"size with a zero":   signNote(origin, logKey, origin+"\n03\n"+root+"\n"),
		"a second paragraph": signNote(origin, logKey, origin+"\n3\n"+root+"\n\nmore\n"),
		"negative size":      signNote(origin, logKey, origin+"\n-3\n"+root+"\n"),
		"short root":         signNote(origin, logKey, origin+"\n3\nAAAA\n"),
	} {
		w.e.Session.Checkpoint = cp
		w.sign()
		if r, err := verifier.Appraise(w.e, w.p); !errors.Is(err, verifier.ErrMismatch) || failed(r) != "log" {
			t.Errorf("%s: failed check %q, error %v", name, failed(r), err)
		}
	}
}

func TestASignerThatSignsWhatDoesNotFitIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		lie   func(*world)
		check string
	}{
		"another number of agents":       {func(w *world) { w.e.Session.AgentCount = 3 }, "agents"},
		"another set of agents":          {func(w *world) { w.e.Session.AgentsRoot[0]++ }, "agents"},
		"a log origin that is no boot's": {func(w *world) { w.e.Boot.LogOrigin = "omega/x" }, "log"},
		"another boot":                   {func(w *world) { w.e.Boot.BootID[0]++ }, "log"},
	} {
		w := newWorld(t)
		tt.lie(w)
		w.sign()
		if r, err := verifier.Appraise(w.e, w.p); !errors.Is(err, verifier.ErrMismatch) || failed(r) != tt.check {
			t.Errorf("%s: failed check %q, error %v", name, failed(r), err)
		}
	}
}

func TestEvidenceOfAnotherFormatIsNotAppraised(t *testing.T) {
	w := newWorld(t)
	w.e.Boot.Version = "omega/boot/v2"
	w.seal()
	if _, err := verifier.Appraise(w.e, w.p); !errors.Is(err, verifier.ErrMismatch) {
		t.Errorf("another version: %v", err)
	}
	for name, change := range map[string]func(*verifier.Params){
		"no manifest": func(p *verifier.Params) { p.Manifest = nil },
		"no time":     func(p *verifier.Params) { p.Now = time.Time{} },
	} {
		w := newWorld(t)
		change(&w.p)
		if r, err := verifier.Appraise(w.e, w.p); err == nil || r.Verdict != attest.VerdictRefused {
			t.Errorf("%s: verdict %s, error %v", name, r.Verdict, err)
		}
	}
}
