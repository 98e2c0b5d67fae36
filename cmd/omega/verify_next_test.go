package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"omega/attest"
)

func TestARefusalSaysWhatToDoNextWhereverItIsTold(t *testing.T) {
	p := newPlatform(t)
	p.launch.Digest[0]++
	page := filepath.Join(t.TempDir(), "page.html")
	args := []string{"verify", p.URL, "--allow-emulated", p.root, "--manifest", p.manifest, "--manifest-unsigned", "--html", page}
	_, out, words := omega(t, args...)
	html, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"stdout": out, "stderr": words, "page": string(html)} {
		if !strings.Contains(text, "one of 1 launch digests") || !strings.Contains(text, "next: get the manifest of the release") {
			t.Errorf("%s does not say what was expected and what to do: %s", name, text)
		}
	}
	_, out, _ = omega(t, append(args, "--json")...)
	var v verification
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatal(err)
	}
	for _, c := range v.Checks {
		if (c.Status == attest.Failed) != (c.Next != "") {
			t.Errorf("check %s, %s: next %q", c.Name, c.Status, c.Next)
		}
	}
}

func TestACheckOfAnyNameHasANextStep(t *testing.T) {
	for _, name := range []string{"tcb", "agent researcher-1", "a check that nobody has written yet"} {
		if nextStep(name) == "" {
			t.Errorf("nothing to do about %s", name)
		}
	}
	if nextStep("agent researcher-1") == nextStep("none such") {
		t.Error("an agent's check is not known")
	}
}
