package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"omega/agentloader/bundle"
)

// filesPolicy lets one agent be made with any model of one maker.
const filesPolicy = `version: omega/policy/v1
platform: files
principals:
  - {name: acme, key: author.pub, roles: [author, deployer], names: [reader]}
  - {name: mia, key: mia.pub, roles: [model], names: ["*"]}
auditors:
  - {name: auditor, key: log/auditor.pub}
servers: []
models: []
agents:
  - name: reader
    requires: [{role: author, principal: acme}, {role: model, principal: mia}]
    permits: []
`

// readerImage builds the agent of the test into a folder.
func (p *packer) readerImage() {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), "go", "build", "-buildvcs=false", "-trimpath", "-o", p.path("reader/agent"), "./testdata/filereader")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("building the agent: %v\n%s", err, out)
	}
}

// readerOf publishes a reader of that model and returns it, and its deployment.
func (p *packer) readerOf(model string, serial int) (ref string, deployment json.RawMessage) {
	p.t.Helper()
	digest := p.file("model", model, "mia")
	p.write("agent.json", `{"version":"omega/agent/v1","name":"reader","command":["/agent"],"model":{"digest":"`+digest+`"}}`)
	ref = p.ok("bundle", "pack", "--manifest", p.path("agent.json"), "--image", p.path("reader"), "--to", p.repo)
	p.sign("author", "author", "acme", ref)
	return ref, json.RawMessage(p.ok("bundle", "deployment", "--key", p.path("author"), "--instance", model, "--audience", "files",
		"--serial", fmt.Sprint(serial), ref))
}

// filesConfig is the launch config that has these deployments started. It names no registry.
func (p *packer) filesConfig(deployments ...json.RawMessage) string {
	p.t.Helper()
	text, err := json.Marshal(map[string]any{"version": "omega/launch/v1", "network": map[string]any{"dhcp": true}, "deployments": deployments})
	if err != nil {
		p.t.Fatal(err)
	}
	return config(p.t, string(text))
}

// TestVMChecksEveryBlockOfAModelWhenItIsRead starts three agents whose bundles lie on a layout disk. One's model
// lies there, too, one's on a good disk, and one's on a disk with a flipped bit: that agent gets an error when it
// reads the block, and the log says so.
func TestVMChecksEveryBlockOfAModelWhenItIsRead(t *testing.T) {
	image(t) // or a skip
	p := newPacker(t)
	p.ok("bundle", "key", "--out", p.path("mia"))
	p.ok("log", "keygen", "--out", p.path("log"))
	p.write("policy.yaml", filesPolicy)
	p.readerImage()
	layout := []string{"bundle", "layout", "--out", p.path("layout.tar")}
	var deployments []json.RawMessage
	for i, model := range []string{"pulled", "stored", "flipped"} {
		ref, deployment := p.readerOf(model, i+1)
		layout, deployments = append(layout, ref), append(deployments, deployment)
	}
	p.ok(layout...)
	var disks []string
	for _, model := range []string{"stored", "flipped"} {
		disk := p.path(model + ".disk")
		p.ok("bundle", "disk", "--file", p.path(model), "--out", disk)
		disks = append(disks, disk)
	}
	flip(t, disks[1], 3*4096+100)
	artifacts := p.path("image")
	if _, err := build(t.Context(), bootEnv(t), buildOptions{Profile: "cpu", Policy: p.path("policy.yaml"), Out: artifacts}); err != nil {
		t.Fatal(err)
	}
	logDisk := p.path("log.disk")
	if err := os.WriteFile(logDisk, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := launch(t, bootOptions{Artifacts: artifacts, Config: p.filesConfig(deployments...), LogDisk: logDisk, Layout: p.path("layout.tar"), Disks: disks})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.WaitLine(vmContext(t), "omega: ready "); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Join(v.Lines(), "\n"); strings.Contains(lines, " refused ") {
		t.Fatal("an agent was refused")
	}
	for _, want := range []string{"omega: agent pulled exited 0", "omega: agent stored exited 0", "omega: agent flipped exited 3"} {
		if _, err := v.WaitLine(vmContext(t), want); err != nil {
			t.Fatalf("%s: %v", want, err)
		}
	}
	p.evidenceOf(v)
	if err := v.Stop(vmContext(t)); err != nil {
		t.Fatal(err)
	}
	checkFilesLog(t, p, logDisk)
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
