package main

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"omega/attest"
	"omega/policy/provenance"
)

const testOrigin = "omega/00112233445566778899aabbccddeeff"

// testLog is a platform that serves a log and evidence about it.
type testLog struct {
	key     ed25519.PrivateKey
	auditor *ecdh.PrivateKey
	files   map[string][]byte
}

func newTestLog(t *testing.T, entries ...provenance.Entry) *testLog {
	t.Helper()
	l := &testLog{files: map[string][]byte{}}
	var err error
	if _, l.key, err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	if l.auditor, err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	l.write(t, entries)
	return l
}

// write seals and signs entries as one epoch.
func (l *testLog) write(t *testing.T, entries []provenance.Entry) {
	t.Helper()
	auditors := []provenance.Auditor{{Name: "ada", Key: [32]byte(l.auditor.PublicKey().Bytes())}}
	epoch, header, err := provenance.NewEpoch(testOrigin, 0, 0, auditors)
	if err != nil {
		t.Fatal(err)
	}
	leaves := []*provenance.Leaf{header}
	for i, e := range entries {
		e.Time = time.Date(2026, 11, 23, 12, 0, i, 0, time.UTC)
		b, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := epoch.Seal(uint64(i+1), b)
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, leaf)
	}
	var tree provenance.Tree
	var bundle []byte
	for _, leaf := range leaves {
		tree.Append(tlog.RecordHash(leaf.Marshal()))
		if bundle, err = provenance.AppendBundle(bundle, leaf.Marshal()); err != nil {
			t.Fatal(err)
		}
	}
	c := provenance.Checkpoint{Origin: testOrigin, Size: tree.Size(), Root: tree.Root()}
	if l.files["checkpoint"], err = provenance.SignCheckpoint(c.Text(), l.key); err != nil {
		t.Fatal(err)
	}
	for _, tile := range provenance.TilesOf(tree.Size()) {
		if tile.Level < 0 {
			l.files[tile.Path()] = bundle
		} else if l.files[tile.Path()], err = tree.Tile(tile); err != nil {
			t.Fatal(err)
		}
	}
}

func (l *testLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == evidencePath {
		nonce, err := hex.DecodeString(r.URL.Query().Get("nonce"))
		if err != nil || len(nonce) != 32 {
			http.Error(w, "nonce", http.StatusBadRequest)
			return
		}
		ev := attest.Evidence{
			Version: attest.EvidenceVersion, Report: []byte{1}, Agents: []attest.Agent{},
			Boot: attest.BootClaims{
				Version: attest.BootVersion, LogKey: attest.Bytes32(l.key.Public().(ed25519.PublicKey)),
				LogOrigin: testOrigin, GPU: "absent",
			},
			Session: attest.Session{Version: attest.SessionVersion, NonceRoot: attest.Nonces{attest.Bytes32(nonce)}.Root(), NonceCount: 1, Checkpoint: l.files["checkpoint"]},
			Nonce:   attest.Nonces{attest.Bytes32(nonce)}.Proofs()[0],
		}
		b, err := ev.Marshal()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Write(b)
		return
	}
	b, ok := l.files[strings.TrimPrefix(r.URL.Path, "/log/")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Write(b)
}

// serve starts the platform; its certificate is one that nobody vouches for.
func (l *testLog) serve(t *testing.T) string {
	t.Helper()
	s := httptest.NewTLSServer(l)
	t.Cleanup(s.Close)
	return s.URL
}

func (l *testLog) logKey() string {
	return hex.EncodeToString(l.key.Public().(ed25519.PublicKey))
}

func testEntries() []provenance.Entry {
	three := uint64(3)
	call := provenance.Entry{Kind: provenance.KindIntent, Agent: "one", Action: "mcp.tools/call", Resource: "files/read"}
	good, bad, done := call, call, call
	good.Decision, good.Rule = provenance.Permit, "read-reports"
	bad.Decision, bad.Reasons = provenance.Deny, []string{"path \x1b[31mis not below /srv"}
	done.Kind, done.Intent, done.Result = provenance.KindOutcome, &three, json.RawMessage(`{"bytes":12}`)
	return []provenance.Entry{
		{Kind: provenance.KindBoot}, {Kind: provenance.KindStart, Agent: "one"}, good, done, bad,
		{Kind: provenance.KindRefusal, Agent: "two", Reasons: []string{"signature of author is wrong"}},
		{Kind: provenance.KindExit, Agent: "one"},
	}
}

// omega runs a verb in process and returns its exit code and both outputs.
func omega(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, words bytes.Buffer
	e := &env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &words}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	code = e.main(ctx, args)
	if refused := code == exitSignature || code == exitCollateral || code == exitMismatch; refused && args[0] == "verify" && strings.Count(words.String(), "next: ") != 1 {
		t.Errorf("omega %q: the refusal does not say once what to do next: %s", args, words.String())
	}
	return code, out.String(), words.String()
}

// auditorFile writes the auditor's private key as keygen would.
func (l *testLog) auditorFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "auditor.key")
	if err := writePrivate(path, l.auditor); err != nil {
		t.Fatal(err)
	}
	return path
}

// exported is an exported copy of the log.
func (l *testLog) exported(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "copy")
	if code, _, words := omega(t, "log", "export", l.serve(t), "--out", dir); code != exitOK {
		t.Fatalf("export: exit %d: %s", code, words)
	}
	return dir
}

func TestALogIsExportedVerifiedAndShown(t *testing.T) {
	l := newTestLog(t, testEntries()...)
	dir, key := l.exported(t), l.auditorFile(t)
	code, out, words := omega(t, "log", "verify", dir, "--key", key)
	if code != exitOK || !strings.Contains(out, "7 of 7 entries open") || !strings.Contains(words, "worth what that evidence is") {
		t.Errorf("verify: exit %d\n%s%s", code, out, words)
	}
	code, out, words = omega(t, "log", "show", "--key", key, dir)
	if code != exitOK {
		t.Fatalf("show: exit %d: %s", code, words)
	}
	for _, want := range []string{"boot", "read-reports", "of intent 3; {\"bytes\":12}", "is not below /srv", "signature of author is wrong"} {
		if !strings.Contains(out, want) {
			t.Errorf("show lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Error("show passes an agent's control characters to the terminal")
	}
}

func TestALogForCallersIsReadWithTheirKey(t *testing.T) {
	l := newTestLog(t, testEntries()...)
	path, key := writeCallerKey(t, elliptic.P256())
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c := r.TLS.PeerCertificates; len(c) != 1 || !key.PublicKey.Equal(c[0].PublicKey) {
			http.Error(w, "who is this?", http.StatusUnauthorized)
			return
		}
		l.ServeHTTP(w, r)
	}))
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequestClientCert}
	s.StartTLS()
	defer s.Close()
	for _, verb := range [][]string{{"verify", s.URL, "--log-key", l.logKey()}, {"export", s.URL, "--out", filepath.Join(t.TempDir(), "copy")}} {
		args := append([]string{"log"}, verb...)
		if code, _, words := omega(t, args...); code != exitCollateral || !strings.Contains(words, "--caller-key") {
			t.Errorf("%s as nobody: exit %d: %s", verb[0], code, words)
		}
		if code, _, words := omega(t, append(args, "--caller-key", path)...); code != exitOK {
			t.Errorf("%s as a caller: exit %d: %s", verb[0], code, words)
		}
	}
}

func TestShowFiltersAndPrintsJSON(t *testing.T) {
	l := newTestLog(t, testEntries()...)
	dir, key := l.exported(t), l.auditorFile(t)
	tests := []struct {
		args []string
		want []uint64
	}{
		{nil, []uint64{1, 2, 3, 4, 5, 6, 7}},
		{[]string{"--denied"}, []uint64{5, 6}},
		{[]string{"--agent", "two"}, []uint64{6}},
		{[]string{"--kind", "intent"}, []uint64{3, 5}},
		{[]string{"--kind", "intent", "--denied", "--agent", "two"}, nil},
	}
	for _, tt := range tests {
		code, out, words := omega(t, append([]string{"log", "show", dir, "--json", "--key", key}, tt.args...)...)
		if code != exitOK {
			t.Fatalf("%v: exit %d: %s", tt.args, code, words)
		}
		var got []uint64
		for line := range strings.Lines(out) {
			var l logLine
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatal(err)
			}
			got = append(got, l.Index)
		}
		if len(got) != len(tt.want) || (len(got) > 0 && got[0] != tt.want[0]) {
			t.Errorf("%v: entries %v, want %v", tt.args, got, tt.want)
		}
	}
	code, out, _ := omega(t, "log", "show", dir, "--json")
	if code != exitOK || strings.Count(out, `"entry":null`) != 7 {
		t.Errorf("without a key: exit %d\n%s", code, out)
	}
}

func TestOneFlippedByteInACopyIsRefusedByName(t *testing.T) {
	l := newTestLog(t, testEntries()...)
	dir := l.exported(t)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == evidenceFile {
			return err
		}
		good, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for i := 0; i < len(good); i += 1 + len(good)/40 {
			bad := bytes.Clone(good)
			bad[i] ^= 1
			if err := os.WriteFile(path, bad, 0o644); err != nil {
				return err
			}
			code, out, words := omega(t, "log", "verify", dir, "--log-key", l.logKey())
			name, _ := filepath.Rel(dir, path)
			if code != exitSignature || out != "" || !strings.Contains(words, name) {
				t.Errorf("%s byte %d: exit %d: %s%s", name, i, code, out, words)
			}
		}
		return os.WriteFile(path, good, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestExitCodesOfLogVerify(t *testing.T) {
	l := newTestLog(t, testEntries()...)
	three := uint64(3)
	broken := newTestLog(t, provenance.Entry{Kind: provenance.KindBoot},
		provenance.Entry{Kind: provenance.KindOutcome, Agent: "one", Action: "a", Intent: &three})
	dir, other := l.exported(t), newTestLog(t)
	rolled := &testLog{key: l.key, auditor: l.auditor, files: map[string][]byte{}}
	rolled.write(t, []provenance.Entry{{Kind: provenance.KindBoot}})
	back := rolled.exported(t)
	cut := l.exported(t)
	if err := os.RemoveAll(filepath.Join(cut, "tile/entries")); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		args []string
		want int
	}{
		{"good", []string{dir}, exitOK},
		{"good, from the platform", []string{l.serve(t), "--log-key", l.logKey()}, exitOK},
		{"good, large enough", []string{dir, "--min-size", "8"}, exitOK},
		{"smaller than seen before", []string{dir, "--min-size", "9"}, exitMismatch},
		{"another log key", []string{dir, "--log-key", other.logKey()}, exitSignature},
		{"another origin", []string{dir, "--log-key", l.logKey(), "--origin", "omega/other"}, exitSignature},
		{"an older head than remembered", []string{dir, "--log-key", l.logKey(), "--previous", filepath.Join(other.exported(t), "checkpoint")}, exitSignature},
		{"older than the evidence, which an older head does not replace", []string{back, "--evidence", filepath.Join(dir, evidenceFile),
			"--previous", filepath.Join(back, "checkpoint")}, exitMismatch},
		{"a tile is missing", []string{cut}, exitSignature},
		{"an auditor of another log", []string{dir, "--key", other.auditorFile(t)}, exitMismatch},
		{"entries break the rules", []string{broken.exported(t), "--key", broken.auditorFile(t)}, exitMismatch},
		{"nobody serves it", []string{"https://127.0.0.1:1", "--log-key", l.logKey()}, exitCollateral},
		{"no key", []string{t.TempDir()}, exitUsage},
		{"no such folder", []string{"/does/not/exist", "--log-key", l.logKey()}, exitUsage},
		{"half a key", []string{dir, "--log-key", "00"}, exitUsage},
		{"nothing", nil, exitUsage},
		{"unknown flag", []string{dir, "--what"}, exitUsage},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if code, out, words := omega(t, append([]string{"log", "verify"}, tt.args...)...); code != tt.want {
				t.Errorf("exit %d, want %d\n%s%s", code, tt.want, out, words)
			}
		})
	}
}

func TestExportLeavesNothingHalfDone(t *testing.T) {
	l := newTestLog(t, testEntries()...)
	where := l.serve(t)
	dir := filepath.Join(t.TempDir(), "copy")
	delete(l.files, "tile/entries/000.p/8")
	if code, _, _ := omega(t, "log", "export", where, "--out", dir); code == exitOK {
		t.Error("a log without entries was exported")
	}
	left, err := os.ReadDir(filepath.Dir(dir))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if code, _, _ := omega(t, "log", "export", where, "--out", t.TempDir()); code == exitOK {
		t.Error("an existing folder was overwritten")
	}
}

func TestKeygenMakesAKeyPairOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if code, _, words := omega(t, "log", "keygen", "--out", dir); code != exitOK {
		t.Fatalf("exit %d: %s", code, words)
	}
	if _, err := readAuditorKey(filepath.Join(dir, "auditor.key")); err != nil {
		t.Error(err)
	}
	info, err := os.Stat(filepath.Join(dir, "auditor.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
	if code, _, _ := omega(t, "log", "keygen", "--out", dir); code == exitOK {
		t.Error("a key was overwritten")
	}
	if _, err := readAuditorKey(filepath.Join(dir, "auditor.pub")); err == nil {
		t.Error("a public key was taken for a private one")
	}
}

func TestALogDiskIsReadAfterThePowerWent(t *testing.T) {
	l := newTestLog(t, testEntries()...)
	leaves, err := provenance.ParseBundle(l.files["tile/entries/000.p/8"], 8)
	if err != nil {
		t.Fatal(err)
	}
	records := []provenance.Record{{Kind: provenance.RecordOrigin, Payload: []byte(testOrigin)}}
	for _, leaf := range leaves {
		records = append(records, provenance.Record{Kind: provenance.RecordLeaf, Payload: leaf})
	}
	records = append(records, provenance.Record{Kind: provenance.RecordCheckpoint, Payload: l.files["checkpoint"]})
	var disk []byte
	for _, r := range records {
		if disk, err = provenance.AppendRecord(disk, uint64(len(disk)), r); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "log.img")
	if err := os.WriteFile(path, append(disk, make([]byte, 1<<20)...), 0o644); err != nil {
		t.Fatal(err)
	}
	code, out, words := omega(t, "log", "show", path, "--log-key", l.logKey(), "--key", l.auditorFile(t))
	if code != exitOK || !strings.Contains(out, "read-reports") {
		t.Errorf("show: exit %d\n%s%s", code, out, words)
	}
	copied := filepath.Join(t.TempDir(), "copy")
	if code, _, words := omega(t, "log", "export", path, "--out", copied); code != exitOK {
		t.Errorf("export: exit %d: %s", code, words)
	}
	if code, _, words := omega(t, "log", "verify", copied, "--log-key", l.logKey(), "--min-size", "8"); code != exitOK {
		t.Errorf("verify of the export: exit %d: %s", code, words)
	}
	disk[len(disk)/2] ^= 1
	if err := os.WriteFile(path, disk, 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, _ := omega(t, "log", "verify", path, "--log-key", l.logKey(), "--min-size", "8"); code == exitOK {
		t.Error("a changed disk was accepted")
	}
}
