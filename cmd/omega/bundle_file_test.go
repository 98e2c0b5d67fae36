package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"omega/agentloader/bundle"
	"omega/agentloader/ocicrypt"
	"omega/internal/verity"
)

// addModels gives the packer's policy who makes models and adapters.
func (p *packer) addModels() {
	for _, who := range []string{"mia", "ada"} {
		p.ok("bundle", "key", "--out", p.path(who))
	}
	text, err := os.ReadFile(p.path("policy.yaml"))
	if err != nil {
		p.t.Fatal(err)
	}
	s := strings.Replace(string(text), "auditors:", `  - {name: mia, key: mia.pub, roles: [model], names: ["*"]}
  - {name: ada, key: ada.pub, roles: [adapter], names: ["*"]}
auditors:`, 1)
	s = strings.Replace(s, "{role: tool, principal: files-co}", "{role: tool, principal: files-co}, {role: model, principal: mia}, {role: adapter, principal: ada}", 1)
	p.write("policy.yaml", s)
}

// file pushes a file as a component, signed by its maker, and returns its digest.
func (p *packer) file(kind, name, who string, more ...string) string {
	p.t.Helper()
	p.write(name, strings.Repeat(name, 3000))
	ref := p.ok(append([]string{"bundle", kind, "--file", p.path(name), "--name", name, "--to", p.repo}, more...)...)
	p.sign(who, kind, who, ref)
	_, digest, _ := strings.Cut(ref, "@")
	return digest
}

func TestBundlesHaveModelsAndAdaptersOfTheirMakers(t *testing.T) {
	p := newPacker(t)
	p.addModels()
	small, large := p.file("model", "small", "mia"), p.file("model", "large", "mia")
	tuned := p.file("adapter", "tuned", "ada", "--base", small)
	tools := p.ok("bundle", "descriptors", "--file", p.path("tools.json"), "--to", p.repo)
	p.sign("files", "tool", "files-co", tools)
	_, descriptors, _ := strings.Cut(tools, "@")
	pack := func(model, adapter string) string {
		t.Helper()
		p.write("agent.json", `{"version":"omega/agent/v1","name":"notes","command":["/agent"],"tools":[{"server":"files","descriptors":"`+descriptors+`"}],
			"model":`+model+`,"adapters":[`+adapter+`]}`)
		ref := p.ok("bundle", "pack", "--manifest", p.path("agent.json"), "--image", p.path("root"), "--to", p.repo)
		p.sign("author", "author", "acme", ref)
		return ref
	}
	only := func(digest string) string { return `{"digest":"` + digest + `"}` }
	tests := []struct {
		name, ref string
		code      int
		says      string
	}{
		{"its own", pack(only(small), only(tuned)), exitOK, "mia"},
		{"an adapter of another model", pack(only(large), only(tuned)), exitMismatch, "was made for the model"},
		{"another's model under its name", pack(strings.Replace(only(large), "{", `{"name":"small","size":1,"root":"`+bundle.DigestOf(nil).String()+`",`, 1), only(tuned)),
			exitMismatch, `the bundle's model "small" is the model "large"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, out, words := p.omega("bundle", "verify", "--policy", p.path("policy.yaml"), tt.ref)
			if code != tt.code || !strings.Contains(out+words, tt.says) {
				t.Errorf("exit code %d, want %d with %q: %s%s", code, tt.code, tt.says, out, words)
			}
		})
	}
	if out := p.ok("bundle", "inspect", tests[0].ref); !strings.Contains(out, `"role": "adapter"`) || !strings.Contains(out, `"name": "tuned"`) {
		t.Errorf("inspect: %s", out)
	}
}

func TestADiskIsTheFileAndItsTree(t *testing.T) {
	p := newPacker(t)
	p.write("weights", strings.Repeat("weights", 2000))
	root := p.ok("bundle", "disk", "--file", p.path("weights"), "--out", p.path("disk"))
	disk, err := os.ReadFile(p.path("disk"))
	if err != nil {
		t.Fatal(err)
	}
	want, tail, err := verity.Append(strings.NewReader(strings.Repeat("weights", 2000)), 14000)
	if err != nil || root != bundle.Digest(want).String() || !bytes.Equal(disk, append([]byte(strings.Repeat("weights", 2000)), tail...)) {
		t.Errorf("root %s, %d bytes, %v", root, len(disk), err)
	}
	if code, _, words := p.omega("bundle", "disk", "--file", p.path("root"), "--out", p.path("disk2")); code == exitOK {
		t.Errorf("a folder became a disk: %s", words)
	}
}

func TestALayoutHoldsEverythingThatAPlatformNeeds(t *testing.T) {
	p := newPacker(t)
	agent, tools := p.pack()
	p.sign("author", "author", "acme", agent)
	p.sign("files", "tool", "files-co", tools)
	for _, out := range []string{"one.tar", "two.tar"} {
		p.ok("bundle", "layout", "--out", p.path(out), agent, agent)
	}
	one, err := os.ReadFile(p.path("one.tar"))
	if err != nil {
		t.Fatal(err)
	}
	if two, err := os.ReadFile(p.path("two.tar")); err != nil || !bytes.Equal(one, two) {
		t.Errorf("two layouts of one bundle differ, %v", err)
	}
	if len(one)%512 != 0 {
		t.Errorf("%d bytes are no disk", len(one))
	}
	for _, want := range []string{"oci-layout", "index.json", bundle.TypeSigstore, bundle.TypeTools} {
		if !bytes.Contains(one, []byte(want)) {
			t.Errorf("the layout lacks %s", want)
		}
	}
	if code, _, words := p.omega("bundle", "layout", "--out", p.path("three.tar")); code != exitUsage || !strings.Contains(words, "one or more") {
		t.Errorf("exit code %d: %s", code, words)
	}
}

func TestAnImageIsPackedEncrypted(t *testing.T) {
	p := newPacker(t)
	p.write("kek", strings.Repeat("k", 32))
	pack := func(more ...string) (int, string, string) {
		return p.omega(append([]string{"bundle", "pack", "--manifest", p.path("agent.json"), "--image", p.path("root"), "--to", p.repo}, more...)...)
	}
	code, ref, words := pack("--encrypt", "kbs:///agents/layer/notes", "--encrypt-key", p.path("kek"))
	if code != exitOK {
		t.Fatal(words)
	}
	digest, err := bundle.ParseDigest(imageIn(t, p, ref))
	if err != nil {
		t.Fatal(err)
	}
	repo, err := parseRepo(p.repo, false)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := remoteSource{repo}.Manifest(t.Context(), digest, bundle.MaxOCIManifest)
	if err != nil {
		t.Fatal(err)
	}
	m, err := bundle.ParseOCIManifest(raw)
	if err != nil || !strings.HasSuffix(m.Layers[0].MediaType, "+gzip+encrypted") {
		t.Fatalf("%v: %s", err, raw)
	}
	s, err := ocicrypt.Parse(m.Layers[0].Annotations)
	if err != nil || s.KeyID != "kbs:///agents/layer/notes" {
		t.Errorf("key %+v, %v", s, err)
	}
	if _, err := s.Unwrap([]byte(strings.Repeat("k", 32))); err != nil {
		t.Error(err)
	}
	for name, args := range map[string][]string{
		"no key":        {"--encrypt", "kbs:///agents/layer/notes"},
		"no place":      {"--encrypt-key", p.path("kek")},
		"another place": {"--encrypt", "https://example.com/key", "--encrypt-key", p.path("kek")},
		"a short key":   {"--encrypt", "kbs:///agents/layer/notes", "--encrypt-key", p.path("tools.json")},
	} {
		if code, _, _ := pack(args...); code == exitOK {
			t.Errorf("%s: packed", name)
		}
	}
}
