package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"

	"omega/agentloader/bundle"
)

// packer plays the people who make a bundle, at the command line, against a registry in memory.
type packer struct {
	t    *testing.T
	dir  string
	repo string
}

func newPacker(t *testing.T) *packer {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
	t.Cleanup(server.Close)
	p := &packer{t, t.TempDir(), strings.TrimPrefix(server.URL, "http://") + "/agents/notes"}
	for _, who := range []string{"author", "files", "auditor", "stranger"} {
		p.ok("bundle", "key", "--out", p.path(who))
	}
	p.write("root/agent", "#!/bin/true")
	p.write("root/data/x", "x")
	p.write("agent.json", `{"version":"omega/agent/v1","name":"notes","command":["/agent"]}`)
	p.write("tools.json", `[{"name":"read","description":"Reads.","input_schema":{"type":"object"}}]`)
	p.write("auditor.hex", strings.Repeat("07", 32))
	p.write("policy.yaml", strings.ReplaceAll(`version: omega/policy/v1
platform: demo
principals:
  - {name: acme, key: author.pub, roles: [author], names: [notes]}
  - {name: files-co, key: files.pub, roles: [tool], names: [files]}
auditors: []
servers:
  - {name: files, url: "https://files.test/", principal: files-co}
models: []
agents:
  - name: notes
    requires: [{role: author, principal: acme}, {role: tool, principal: files-co}]
    permits: []
`, "\t", "  "))
	return p
}

func (p *packer) path(name string) string { return filepath.Join(p.dir, name) }

func (p *packer) write(name, text string) {
	p.t.Helper()
	if err := os.MkdirAll(filepath.Dir(p.path(name)), 0o755); err != nil {
		p.t.Fatal(err)
	}
	mode := os.FileMode(0o644)
	if strings.HasPrefix(text, "#!") {
		mode = 0o755
	}
	if err := os.WriteFile(p.path(name), []byte(text), mode); err != nil {
		p.t.Fatal(err)
	}
}

// omega runs the command line and returns its exit code, data and words.
func (p *packer) omega(args ...string) (int, string, string) {
	var out, words bytes.Buffer
	e := &env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &words}
	code := e.main(p.t.Context(), args)
	return code, strings.TrimSpace(out.String()), words.String()
}

func (p *packer) ok(args ...string) string {
	p.t.Helper()
	code, out, words := p.omega(args...)
	if code != exitOK {
		p.t.Fatalf("omega %q: exit code %d: %s", args, code, words)
	}
	return out
}

// pack pushes tools and bundle and returns both references.
func (p *packer) pack() (agent, tools string) {
	tools = p.ok("bundle", "descriptors", "--file", p.path("tools.json"), "--to", p.repo)
	_, digest, _ := strings.Cut(tools, "@")
	p.write("agent.json", `{"version":"omega/agent/v1","name":"notes","command":["/agent"],"tools":[{"server":"files","descriptors":"`+digest+`"}]}`)
	return p.ok("bundle", "pack", "--manifest", p.path("agent.json"), "--image", p.path("root"), "--to", p.repo), tools
}

func (p *packer) sign(key, role, principal, ref string) {
	p.t.Helper()
	p.ok("bundle", "sign", "--key", p.path(key), "--role", role, "--principal", principal, ref)
}

func TestBundleIsVerifiedOnlyWhenEverybodySigned(t *testing.T) {
	p := newPacker(t)
	agent, tools := p.pack()
	verify := []string{"bundle", "verify", "--policy", p.path("policy.yaml"), agent}
	steps := []struct {
		name string
		do   func()
		code int
	}{
		{"unsigned", func() {}, exitSignature},
		{"signed by a stranger", func() { p.sign("stranger", "author", "acme", agent) }, exitSignature},
		{"signed in another role", func() { p.sign("author", "operator", "acme", agent) }, exitSignature},
		{"signed by its author alone", func() { p.sign("author", "author", "acme", agent) }, exitSignature},
		{"tools signed by the author", func() { p.sign("author", "tool", "files-co", tools) }, exitSignature},
		{"tools signed by their owner", func() { p.sign("files", "tool", "files-co", tools) }, exitOK},
	}
	for _, s := range steps {
		s.do()
		code, out, words := p.omega(verify...)
		if code != s.code {
			t.Fatalf("%s: exit code %d, want %d: %s%s", s.name, code, s.code, out, words)
		}
		t.Logf("%s: %s%s", s.name, out, words)
	}
	var seen inspection
	if err := json.Unmarshal([]byte(p.ok("bundle", "inspect", agent)), &seen); err != nil {
		t.Fatal(err)
	}
	if seen.Manifest.Name != "notes" || len(seen.Signatures) != 5 {
		t.Errorf("inspect shows %+v", seen)
	}
}

func TestSameFolderGivesTheSameBundle(t *testing.T) {
	p := newPacker(t)
	first, _ := p.pack()
	if err := os.Chtimes(p.path("root/agent"), time.Now(), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(p.path("root/data/x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again, _ := p.pack(); again != first {
		t.Errorf("%s and %s", first, again)
	}
	p.write("root/data/x", "y")
	if other, _ := p.pack(); other == first {
		t.Error("another file, the same bundle")
	}
}

func TestImagesOfOtherToolsArePackedAsTheyAre(t *testing.T) {
	p := newPacker(t)
	img, err := random.Image(1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		mediaType types.MediaType
		code      int
	}{{types.OCIManifestSchema1, exitOK}, {types.DockerManifestSchema2, exitUsage}} {
		dir := t.TempDir()
		l, err := layout.Write(dir, empty.Index)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.AppendImage(mutate.MediaType(img, tt.mediaType)); err != nil {
			t.Fatal(err)
		}
		code, out, words := p.omega("bundle", "pack", "--manifest", p.path("agent.json"), "--image", dir, "--to", p.repo)
		if code != tt.code {
			t.Errorf("%s: exit code %d: %s%s", tt.mediaType, code, out, words)
		}
	}
}

func TestDeploymentIsForOneBundle(t *testing.T) {
	p := newPacker(t)
	agent, _ := p.pack()
	raw := p.ok("bundle", "deployment", "--key", p.path("author"), "--instance", "notes-1", "--audience", "demo", "--serial", "4", agent)
	text, err := os.ReadFile(p.path("author.pub"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := bundle.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	d, _, err := bundle.VerifyDeployment([]byte(raw), []bundle.Key{key})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(agent, d.Bundle.String()) || d.Repository != p.repo || d.Serial != 4 || d.Instance != "notes-1" || d.Audience != "demo" {
		t.Errorf("deployment %+v", d)
	}
	raw = p.ok("bundle", "removal", "--key", p.path("author"), "--instance", "notes-1", "--audience", "demo", "--serial", "5", "--grace", "3s", agent)
	if r, err := bundle.ParseRemoval([]byte(raw)); err != nil || r.Serial != 5 || r.GraceSeconds != 3 || r.Instance != "notes-1" {
		t.Errorf("removal %+v, %v", r, err)
	}
}

func TestBundleVerbRefuses(t *testing.T) {
	p := newPacker(t)
	agent, _ := p.pack()
	if err := os.Mkdir(p.path("odd"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(p.path("odd/fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	repo, _, _ := strings.Cut(agent, "@")
	absent := repo + "@" + bundle.DigestOf([]byte("absent")).String()
	p.write("bad.json", `{"version":"omega/agent/v1","name":"notes","command":["/agent"],"surprise":1}`)
	pack := func(manifest, image string) []string {
		return []string{"bundle", "pack", "--manifest", p.path(manifest), "--image", p.path(image), "--to", p.repo}
	}
	tests := []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no action", []string{"bundle"}, exitUsage, "want one of"},
		{"a tag", []string{"bundle", "inspect", repo + ":latest"}, exitUsage, "names no digest"},
		{"a bundle that is not there", []string{"bundle", "inspect", absent}, exitCollateral, "not available"},
		{"a registry that is not there", []string{"bundle", "inspect", "127.0.0.1:1/x@" + bundle.DigestOf(nil).String()}, exitCollateral, "not available"},
		{"an unknown field", pack("bad.json", "root"), exitUsage, "surprise"},
		{"a fifo in the image", pack("agent.json", "odd"), exitUsage, "fifo"},
		{"a missing folder", pack("agent.json", "nowhere"), exitUsage, "nowhere"},
		{"an old key", []string{"bundle", "key", "--out", p.path("author")}, exitUsage, "exists"},
		{"a missing flag", []string{"bundle", "sign", "--key", p.path("author"), agent}, exitUsage, "--role"},
		{"a public key", []string{"bundle", "sign", "--key", p.path("author.pub"), "--role", "author", "--principal", "acme", agent}, exitUsage, "PUBLIC KEY"},
		{"signing what is not there", []string{"bundle", "sign", "--key", p.path("author"), "--role", "author", "--principal", "acme", absent}, exitCollateral, "not available"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, out, words := p.omega(tt.args...)
			if code != tt.code || !strings.Contains(words, tt.want) {
				t.Errorf("exit code %d, want %d with %q: %s%s", code, tt.code, tt.want, out, words)
			}
		})
	}
}
