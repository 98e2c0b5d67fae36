package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"omega/agentloader/bundle"
)

// filesConfig is the launch config that has these deployments started. It names no registry.
func (p *packer) filesConfig(deployments ...json.RawMessage) string {
	p.t.Helper()
	text, err := json.Marshal(map[string]any{"version": "omega/launch/v1", "network": map[string]any{"dhcp": true}, "deployments": deployments})
	if err != nil {
		p.t.Fatal(err)
	}
	return config(p.t, string(text))
}

// evidenceOf keeps a platform's evidence, which names its log's key. It is not verified here.
func (p *packer) evidenceOf(v *vm) {
	p.t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	resp, err := client.Get(fmt.Sprintf("https://127.0.0.1:%d/.well-known/omega/evidence?nonce=%064x", v.Port, 1))
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write("evidence.json", string(b))
}

// flip changes one bit of a file.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// checkFilesLog holds the entries against what the agents met.
func checkFilesLog(t *testing.T, p *packer, disk string) {
	t.Helper()
	out := p.ok("log", "show", "--json", "--evidence", p.path("evidence.json"), "--key", p.path("log/auditor.key"), disk)
	pulled, stored := bundle.DigestOf(bytes.Repeat([]byte("pulled"), 3000)), bundle.DigestOf(bytes.Repeat([]byte("stored"), 3000))
	for _, want := range []string{pulled.String(), stored.String(), "I/O error after "} {
		if !strings.Contains(out, want) {
			t.Errorf("no agent wrote %q", want)
		}
	}
	var refusals []string
	for line := range strings.Lines(out) {
		if strings.Contains(line, "does not belong to the file's verity root") {
			refusals = append(refusals, line)
		}
	}
	if len(refusals) != 1 || !strings.Contains(refusals[0], "flipped") {
		t.Errorf("entries of corrupted blocks: %q", refusals)
	}
	if t.Failed() {
		t.Log(out)
	}
}
