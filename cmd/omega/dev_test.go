package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"omega/agentloader/bundle"
	"omega/policy"
)

func TestOnlyNewLinesOfAnAgentArePrinted(t *testing.T) {
	for _, tt := range []struct{ old, lines, want string }{
		{"", "a b", "a b"},
		{"a b", "a b", ""},
		{"a b", "a b c", "c"},
		{"a b c", "b c d e", "d e"},
		{"a b", "c d", "c d"},
		{"a a", "a a a", "a"}, // one of three is surely new
	} {
		old, lines := strings.Fields(tt.old), strings.Fields(tt.lines)
		if got := strings.Join(lines[overlap(old, lines):], " "); got != tt.want {
			t.Errorf("after %q, of %q: %q, want %q", tt.old, tt.lines, got, tt.want)
		}
	}
}

// Nobody's key of the policy is left, and the person at the keyboard may do
// everything that a caller can.
func TestKeysMadeHereStandForEverybodys(t *testing.T) {
	_, path := devAgentFolder(t)
	before, _, err := devPolicy(path, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	out, keys, err := devPolicy(path, dir)
	if err != nil {
		t.Fatal(err)
	}
	doc := out.Document
	if doc.Principals[0].Keys[0].ID == before.Document.Principals[0].Keys[0].ID || len(keys.principals["writer"]) != 1 {
		t.Error("the writer's key was not replaced by one of this folder's")
	}
	if again, _, err := devPolicy(path, dir); err != nil || again.Digest != out.Digest {
		t.Errorf("the second run has other keys, error %v", err)
	}
	last := doc.Callers[len(doc.Callers)-1]
	if last.Name != devCaller || last.Anonymous || len(last.Rights) != 5 {
		t.Errorf("caller %+v", last)
	}
	onBundle, on := keys.vouchers(doc, &bundle.Manifest{Name: "hello"})
	if len(onBundle) != 1 || onBundle[0] != (bundle.Vouch{Role: "author", Principal: "writer"}) || len(on) != 0 {
		t.Errorf("vouchers %v and %v", onBundle, on)
	}
	if doc.Auditors[0].Name != devCaller || keys.deployer == nil || !deploys(doc, devCaller) {
		t.Error("the person at the keyboard is no auditor or deployer")
	}
}

func deploys(doc *policy.Document, name string) bool {
	for _, p := range doc.Principals {
		if p.Name == name && p.Roles[0] == bundle.RoleDeployer {
			return true
		}
	}
	return false
}

func TestAnAgentsFolderHasItsParts(t *testing.T) {
	for name, tt := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no manifest":      {map[string]string{"root/x": ""}, "agent.json"},
		"no image":         {map[string]string{"agent.json": `{"name":"a"}`}, "no folder root"},
		"no name":          {map[string]string{"agent.json": `{}`, "root/x": ""}, "no agent's name"},
		"an unknown field": {map[string]string{"agent.json": `{"name":"a","x":1}`, "root/x": ""}, "x"},
		"all of it":        {map[string]string{"agent.json": `{"name":"a"}`, "root/x": ""}, ""},
	} {
		dir := t.TempDir()
		for file, text := range tt.files {
			path := filepath.Join(dir, file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		_, err := devFolders([]string{dir})
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}
