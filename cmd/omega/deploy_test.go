package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"omega/agentloader/bundle"
	"omega/attest"
)

// agentsAPI is the part of a platform that lists and takes orders about agents.
type agentsAPI struct {
	list   []platformAgent
	lines  []string
	orders []string // path and what it is, of each order
	caller string   // key of the last one's client certificate
	body   []byte
	refuse func(w http.ResponseWriter)
}

func (a *agentsAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.caller = ""
	if certs := r.TLS.PeerCertificates; len(certs) > 0 {
		sum := sha256.Sum256(certs[0].RawSubjectPublicKeyInfo)
		a.caller = hex.EncodeToString(sum[:])
	}
	switch {
	case a.refuse != nil:
		a.refuse(w)
	case r.Method == http.MethodGet && r.URL.Path == agentsPath:
		_ = json.NewEncoder(w).Encode(map[string]any{"agents": a.list})
	case r.Method == http.MethodGet && r.URL.Path == agentsPath+"/notes-1/output":
		_ = json.NewEncoder(w).Encode(map[string]any{"instance": "notes-1", "lines": a.lines})
	case r.Method == http.MethodPost:
		a.body, _ = io.ReadAll(r.Body)
		what := "malformed"
		if _, err := bundle.ParseDeployment(a.body); err == nil {
			what = "deployment"
		} else if _, err := bundle.ParseRemoval(a.body); err == nil {
			what = "removal"
		}
		a.orders = append(a.orders, r.URL.Path+" "+what)
		code := 143
		_ = json.NewEncoder(w).Encode(orderDone{Instance: "notes-1", Bundle: "sha256:ab", State: "stopped", ExitCode: &code})
	default:
		http.NotFound(w, r)
	}
}

// served is a platform with such an API, and the flags that let it verify.
func served(t *testing.T) (*platform, *agentsAPI, []string) {
	t.Helper()
	p, a := newPlatform(t), &agentsAPI{}
	p.api = a
	return p, a, []string{"--allow-emulated", p.root, "--manifest", p.manifest, "--manifest-unsigned"}
}

// deployerKey is a file with a deployer's key, and the key's ID.
func deployerKey(t *testing.T) (path, id string) {
	t.Helper()
	key, err := bundle.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	text, err := key.MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.Public()
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "deployer.pem")
	writeTestFile(t, path, text)
	return path, public.ID
}

func TestDeployHandsInWhatIsSignedOrSignsIt(t *testing.T) {
	p, api, good := served(t)
	key, id := deployerKey(t)
	digest := "sha256:" + strings.Repeat("ab", 32)
	d, err := bundle.ParseDigest(digest)
	if err != nil {
		t.Fatal(err)
	}
	api.list = []platformAgent{{Instance: "notes-1", Name: "notes", Bundle: digest, State: "running"}}
	private, err := readKey(key)
	if err != nil {
		t.Fatal(err)
	}
	statement, err := bundle.SignDeployment(private, bundle.Deployment{Bundle: d, Repository: "r/notes", Instance: "i", Audience: "lab", Serial: 1, Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "statement.json")
	writeTestFile(t, file, statement)
	ref := "localhost:5000/notes@" + digest
	for _, tt := range []struct {
		name   string
		args   []string
		code   int
		orders []string
		caller string
	}{
		{"a statement", []string{p.URL, file}, exitOK, []string{"/v1/deploy deployment"}, ""},
		{"a statement, by a caller", []string{p.URL, file, "--caller-key", key}, exitOK, []string{"/v1/deploy deployment"}, id},
		{"a bundle", []string{p.URL, "--bundle", ref, "--instance", "notes-1", "--key", key}, exitOK, []string{"/v1/deploy deployment"}, id},
		{"a removal", []string{p.URL, "--remove", "notes-1", "--key", key}, exitOK, []string{"/v1/agents/notes-1/stop removal"}, id},
		{"a removal of a named bundle", []string{p.URL, "--remove", "other", "--bundle", ref, "--key", key}, exitOK, []string{"/v1/agents/other/stop removal"}, id},
		{"a removal of what is not shown", []string{p.URL, "--remove", "other", "--key", key}, exitMismatch, nil, id},
		{"nothing", []string{p.URL}, exitUsage, nil, ""},
		{"a key without a bundle", []string{p.URL, "--key", key}, exitUsage, nil, ""},
		{"a statement and a key", []string{p.URL, file, "--key", key}, exitUsage, nil, ""},
		{"a bundle without an instance", []string{p.URL, "--bundle", ref, "--key", key}, exitUsage, nil, ""},
		{"a tag", []string{p.URL, "--bundle", "localhost:5000/notes:latest", "--instance", "i", "--key", key}, exitUsage, nil, ""},
		{"an instance that leads elsewhere", []string{p.URL, "--remove", "../../log", "--key", key}, exitUsage, nil, ""},
	} {
		api.orders, api.caller = nil, ""
		code, out, words := omega(t, append(append([]string{"deploy"}, tt.args...), good...)...)
		if code != tt.code || !slices.Equal(api.orders, tt.orders) || api.caller != tt.caller {
			t.Errorf("%s: exit %d, orders %v by %.8s: %s", tt.name, code, api.orders, api.caller, words)
		}
		if code == exitOK && !strings.Contains(out, "notes-1: stopped, bundle sha256:ab, exit code 143") {
			t.Errorf("%s: %q", tt.name, out)
		}
	}
}

func TestWhatDeploySignsIsForThisBootAlone(t *testing.T) {
	p, api, good := served(t)
	key, _ := deployerKey(t)
	ref := "localhost:5000/notes@sha256:" + strings.Repeat("ab", 32)
	deploy := func(more ...string) *bundle.Deployment {
		t.Helper()
		args := slices.Concat([]string{"deploy", p.URL, "--bundle", ref, "--instance", "notes-1", "--key", key}, good, more)
		if code, _, words := omega(t, args...); code != exitOK {
			t.Fatalf("exit %d: %s", code, words)
		}
		d, err := bundle.ParseDeployment(api.body)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	raw, err := p.evidence(t.Context(), [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	e, err := attest.ParseEvidence(raw)
	if err != nil {
		t.Fatal(err)
	}
	first := deploy()
	if first.Audience != e.Boot.BootID.String() || first.Instance != "notes-1" || first.Repository != "localhost:5000/notes" || time.Until(first.Expires) > time.Hour {
		t.Errorf("%+v", first)
	}
	if second := deploy(); second.Serial <= first.Serial {
		t.Errorf("serial %d after %d", second.Serial, first.Serial)
	}
	if d := deploy("--audience", "lab", "--serial", "7", "--for", "10m"); d.Audience != "lab" || d.Serial != 7 || time.Until(d.Expires) > 10*time.Minute {
		t.Errorf("%+v", d)
	}
}

func TestNothingIsHandedToAPlatformThatDoesNotVerify(t *testing.T) {
	p, api, good := served(t)
	key, _ := deployerKey(t)
	for name, change := range map[string]func(){
		"emulated hardware that was not allowed": func() { good = good[2:] },
		"another launch digest":                  func() { p.launch.Digest[0]++ },
	} {
		change()
		for _, verb := range [][]string{
			{"deploy", p.URL, "--remove", "notes-1", "--key", key, "--bundle", "localhost:5000/notes@sha256:" + strings.Repeat("ab", 32)}, {"agents", p.URL},
		} {
			code, out, _ := omega(t, append(verb, good...)...)
			if code != exitSignature && code != exitMismatch || out != "" || len(api.orders) > 0 {
				t.Errorf("%s: omega %s: exit %d, orders %v, %q", name, verb[0], code, api.orders, out)
			}
		}
	}
}

func TestAPlatformsRefusalIsTheVerbs(t *testing.T) {
	p, api, good := served(t)
	for _, tt := range []struct {
		status int
		text   string
		code   int
		words  string
	}{
		{403, `{"error":{"code":"no_right","message":"you do not have the right: observe","next":"ask"}}`, exitMismatch, "the platform refuses: you do not have the right: observe; next: ask"},
		{403, `{"error":{"code":"signature","message":"m","next":"n"}}`, exitSignature, "m; next: n"},
		{403, `{"error":{"code":"expired","message":"m","next":"n"}}`, exitSignature, "m; next: n"},
		{409, `{"error":{"code":"replayed","message":"m","next":"n"}}`, exitMismatch, "m; next: n"},
		{503, `{"error":{"code":"unavailable","message":"m","next":"n"}}`, exitUsage, "m; next: n"},
		{500, `<html>`, exitUsage, "500"},
		{200, `no json`, exitUsage, "answer of"},
	} {
		api.refuse = func(w http.ResponseWriter) {
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.text)
		}
		code, out, words := omega(t, append([]string{"agents", p.URL}, good...)...)
		if code != tt.code || !strings.Contains(words, tt.words) || out != "" {
			t.Errorf("%d %s: exit %d: %s", tt.status, tt.text, code, words)
		}
	}
}

func TestAgentsAreShownAsATable(t *testing.T) {
	p, api, good := served(t)
	two := 2
	api.list = []platformAgent{
		{Instance: "notes-1", Name: "notes", Bundle: "sha256:" + strings.Repeat("ab", 32), State: "running", Since: time.Now().Add(-90 * time.Second)},
		{Instance: "evil\x1b[2J", Name: "x", State: "exited", Restarts: 3, ExitCode: &two, Since: time.Now().Add(time.Hour)},
	}
	api.lines = []string{"hello", "evil \x1b[2J\u009b2J"}
	code, out, words := omega(t, append([]string{"agents", p.URL}, good...)...)
	lines := strings.Split(out, "\n")
	if code != exitOK || len(lines) != 4 || strings.ContainsAny(out, "\x1b") {
		t.Fatalf("exit %d: %s\n%q", code, words, out)
	}
	for i, want := range [][]string{{"notes-1", "notes", "running", "1m30s", "0", "-", "sha256:abababababab"}, {"evil\ufffd[2J", "x", "exited", "0s", "3", "2"}} {
		if got := strings.Fields(lines[i+1]); !slices.Equal(got, want) {
			t.Errorf("row %q, want %q", got, want)
		}
	}
	code, out, _ = omega(t, append([]string{"agents", p.URL, "--json"}, good...)...)
	var list struct{ Agents []platformAgent }
	if err := json.Unmarshal([]byte(out), &list); err != nil || code != exitOK || len(list.Agents) != 2 || *list.Agents[1].ExitCode != 2 {
		t.Errorf("exit %d, %v: %s", code, err, out)
	}
	code, out, _ = omega(t, append([]string{"agents", p.URL, "--output", "notes-1"}, good...)...)
	if code != exitOK || out != "hello\nevil \ufffd[2J\ufffd2J\n" {
		t.Errorf("exit %d: %q", code, out)
	}
	if code, _, _ = omega(t, append([]string{"agents", p.URL, "--output", "../x"}, good...)...); code != exitUsage {
		t.Errorf("an instance that leads elsewhere: exit %d", code)
	}
}

func TestAnAgentsLinesAreFollowed(t *testing.T) {
	for _, tt := range []struct{ seen, now, want string }{
		{"", "", ""}, {"", "a b", "a b"}, {"a b", "a b", ""}, {"a b", "a b c", "c"}, {"a b c", "b c d e", "d e"},
		{"a b", "c d", "c d"}, {"a a", "a a a", "a"}, {"a b", "", ""},
	} {
		if got := newLines(strings.Fields(tt.seen), strings.Fields(tt.now)); strings.Join(got, " ") != tt.want {
			t.Errorf("after %q, %q: %q, want %q", tt.seen, tt.now, got, tt.want)
		}
	}
	p, api, good := served(t)
	api.lines = []string{"one"}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &trigger{words: "one\n", then: cancel}
	e := &env{Stdin: strings.NewReader(""), Stdout: out, Stderr: io.Discard}
	if code := e.main(ctx, append([]string{"agents", p.URL, "--output", "notes-1", "--follow"}, good...)); code != exitOK || out.String() != "one\n" {
		t.Errorf("exit %d: %q", code, out)
	}
	for _, args := range [][]string{{"--follow"}, {"--follow", "--output", "notes-1", "--json"}} {
		if code, _, _ := omega(t, append(append([]string{"agents", p.URL}, args...), good...)...); code != exitUsage {
			t.Errorf("%v: exit %d", args, code)
		}
	}
}

func TestTheLiveTableIsDrawnOverItself(t *testing.T) {
	var out bytes.Buffer
	drawn, err := redraw(&out, "a\nb\n", 0)
	if err != nil || drawn != 2 || out.String() != "a\nb\n" {
		t.Errorf("%d, %v, %q", drawn, err, &out)
	}
	out.Reset()
	if drawn, err = redraw(&out, "c\n", drawn); err != nil || drawn != 1 || out.String() != "\x1b[2A\x1b[Jc\n" {
		t.Errorf("%d, %v, %q", drawn, err, &out)
	}
	if toTerminal(&out) || toTerminal(os.NewFile(^uintptr(0), "none")) {
		t.Error("what is no terminal is taken for one")
	}
}
