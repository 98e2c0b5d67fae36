package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"omega/internal/skip"
)

// workPolicy has every kind of agent: with a model, asked by callers, with a tool server that is a bundle and
// with clean sessions, and some that attack the others.
const workPolicy = `version: omega/policy/v1
platform: files
principals:
  - {name: acme, key: author.pub, roles: [author, deployer], names: ["*"]}
  - {name: mia, key: mia.pub, roles: [model], names: ["*"]}
  - {name: owner, key: files.pub, roles: [tool], names: [notes]}
  - {name: boss, key: boss.pub, roles: [approver], names: ["*"]}
  - {name: maker, key: files.pub, roles: [engine], names: [llama]}
  - {name: lab, key: mia.pub, roles: [adapter], names: ["*"]}
models:
  - {name: tiny, engine: llama, max_tokens: 64}
callers:
  - {name: anyone, anonymous: true, rights: [observe, invoke], agents: ["*"]}
  - {name: boss, key: boss.pub, rights: [invoke, approve, observe, output], agents: ["*"]}
auditors:
  - {name: auditor, key: log/auditor.pub}
servers:
  - {name: notes, bundle: notes-server, principal: owner}
data:
  - {name: board}
web:
  - {name: shop, hosts: [shop.invalid], ports: [80], plain: true}
agents:
  - name: reader
    requires: [{role: author, principal: acme}, {role: model, principal: mia}]
    permits: []
  - name: asked
    requires: [{role: author, principal: acme}]
    permits:
      - {id: buy, action: http.request, resource: shop, approval: boss}
      - {id: pin, action: data.write, resource: board, args: {name: {prefix: pub}}}
      - {id: look, action: data.read, resource: board}
  - {name: notes-server, requires: [{role: author, principal: acme}], permits: []}
  - name: desk
    requires: [{role: author, principal: acme}, {role: tool, principal: owner}]
    sessions: clean
    permits: [{id: note, action: mcp.tools/call, resource: notes/note, args: {text: {type: string}}}]
  - {name: llama, requires: [{role: engine, principal: maker}, {role: model, principal: mia}], permits: []}
  - name: plain
    requires: [{role: author, principal: acme}, {role: engine, principal: maker}, {role: model, principal: mia}]
    permits: [{id: ask-plain, action: llm.chat, resource: tiny}]
  - name: tuned
    requires: [{role: author, principal: acme}, {role: engine, principal: maker}, {role: model, principal: mia}, {role: adapter, principal: lab}]
    permits: [{id: ask-tuned, action: llm.chat, resource: tiny}]
  - {name: hostile, requires: [{role: author, principal: acme}], permits: []}
`

// A workplace is one guest in which all of them run.
type workplace struct {
	*packer
	v           *vm
	layout      []string // of `omega bundle layout`
	deployments []json.RawMessage
}

// add publishes a bundle and has instances of it deployed.
func (w *workplace) add(manifest, image string, instances ...string) (ref string) {
	w.t.Helper()
	w.write("agent.json", manifest)
	ref = w.ok("bundle", "pack", "--manifest", w.path("agent.json"), "--image", image, "--to", w.repo)
	w.sign("author", "author", "acme", ref)
	w.layout = append(w.layout, ref)
	for _, name := range instances {
		w.deployments = append(w.deployments, json.RawMessage(w.ok("bundle", "deployment", "--key", w.path("author"), "--instance", name,
			"--audience", "files", "--serial", fmt.Sprint(100+len(w.deployments)), ref)))
	}
	return ref
}

// program builds one for an image of its own and returns the image's folder.
func (w *workplace) program(name, module, pkg string) string {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), "go", "build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w -R 0x10000", "-o", w.path("image-"+name+"/"+name), pkg)
	cmd.Dir, cmd.Env = module, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		skip.Missing(w.t, "%s does not build: %v\n%s", name, err, out)
	}
	return w.path("image-" + name)
}

// agents publishes everybody but the readers.
func (w *workplace) agents() {
	w.t.Helper()
	var crowd []string
	for i := range workCrowd {
		crowd = append(crowd, fmt.Sprintf("asked-%d", i))
	}
	w.add(`{"version":"omega/agent/v1","name":"asked","command":["/asked"],"serve":{"port":8000,"health":"/health"},"limits":{"memory_bytes":67108864}}`,
		w.program("asked", ".", "./testdata/asked"), crowd...)
	w.write("notes.json", `[{"name":"note","description":"Keeps a note.","input_schema":{"type":"object"}}]`)
	tools := w.ok("bundle", "descriptors", "--file", w.path("notes.json"), "--to", w.repo)
	w.sign("files", "tool", "owner", tools)
	_, descriptors, _ := strings.Cut(tools, "@")
	sessions := w.program("sessions", ".", "./testdata/sessions")
	w.add(`{"version":"omega/agent/v1","name":"notes-server","command":["/sessions","server"],"server":{"transport":"stdio"}}`, sessions, "notes-server")
	w.add(`{"version":"omega/agent/v1","name":"desk","command":["/sessions"],"tools":[{"server":"notes","descriptors":"`+descriptors+`"}],"serve":{"port":8000}}`,
		sessions, "desk")
	w.add(`{"version":"omega/agent/v1","name":"hostile","command":["/hostile"],"limits":{"memory_bytes":67108864,"processes":48}}`,
		w.program("hostile", filepath.Join("..", "..", "examples"), "./agents/hostile"), slices.Sorted(maps.Keys(workHostiles))...)
}

// ask is one of the verbs for platforms.
func (w *workplace) ask(verb string, args ...string) (int, string, string) {
	w.t.Helper()
	args = append([]string{verb, fmt.Sprintf("https://127.0.0.1:%d", w.v.Port), "--manifest", w.path("image/manifest.json"),
		"--manifest-unsigned", "--allow-emulated", w.v.Root}, args...)
	return w.omega(args...)
}

// say writes what somebody is asked into a file.
func (w *workplace) say(name, words string) string {
	w.write(name, words)
	return w.path(name)
}

// readers publishes the agents with models, and makes the disks of two of those.
func (w *workplace) readers() (disks []string) {
	w.t.Helper()
	reader := w.program("reader", ".", "./testdata/filereader")
	for _, model := range slices.Sorted(maps.Keys(workReaders)) {
		digest := w.file("model", model, "mia")
		w.add(`{"version":"omega/agent/v1","name":"reader","command":["/reader"],"model":{"digest":"`+digest+`"},
			"limits":{"io_bytes_per_second":`+fmt.Sprint(workDiskRate)+`}}`, reader, model)
		if model == "pulled" {
			continue // it comes with the bundle
		}
		disk := w.path(model + ".disk")
		w.ok("bundle", "disk", "--file", w.path(model), "--out", disk)
		disks = append(disks, disk)
		if model == "flipped" {
			flip(w.t, disk, 3*4096+100)
		}
	}
	return disks
}
