package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"omega/images"
	"omega/internal/cache"
	"omega/internal/gguf"
	"omega/internal/skip"
)

// engine publishes a real engine and two agents of it, and makes the disk of its
// model.
func (w *workplace) engine() (disk string) {
	w.t.Helper()
	c, err := cache.Open("")
	if err != nil {
		w.t.Fatal(err)
	}
	if err := images.LlamaCPP(w.t.Context(), c, nil, w.path("image-llama")); err != nil {
		skip.Missing(w.t, "no llama.cpp: %v", err)
	}
	if err := os.WriteFile(w.path("tiny.gguf"), gguf.Model(1), 0o644); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.path("tuned.gguf"), gguf.Adapter(2), 0o644); err != nil {
		w.t.Fatal(err)
	}
	published := func(kind, name, key, principal string, more ...string) (digest string) {
		ref := w.ok(append([]string{"bundle", kind, "--file", w.path(name), "--name", name, "--to", w.repo}, more...)...)
		w.sign(key, kind, principal, ref)
		_, digest, _ = strings.Cut(ref, "@")
		return digest
	}
	model := published("model", "tiny.gguf", "mia", "mia")
	adapter := published("adapter", "tuned.gguf", "mia", "lab", "--base", model)
	ref := w.add(`{"version":"omega/agent/v1","name":"llama","model":{"digest":"`+model+`"},"serve":{"port":8080,"health":"/health"},
		"engine":{"adapter_args":["--lora","{path}"],"processes":2},"command":["/usr/bin/llama-server","--model","/models/tiny.gguf",
		"--host","127.0.0.1","--port","8080","--ctx-size","512","--parallel","2","--threads","1","--no-ui","--cache-ram","0"]}`, w.path("image-llama"), "llama")
	w.sign("files", "engine", "maker", ref)
	_, digest, _ := strings.Cut(ref, "@")
	asker := w.program("asker", ".", "./testdata/asker")
	for name, adapters := range map[string]string{"plain": "", "tuned": `,"adapters":[{"digest":"` + adapter + `"}]`} {
		w.add(`{"version":"omega/agent/v1","name":"`+name+`","command":["/asker"],"models":["tiny"],"serve":{"port":8000},
			"model":{"digest":"`+model+`"},"inference":{"engine":"llama","bundle":"`+digest+`"}`+adapters+`}`, asker, name)
	}
	disk = filepath.Join(w.dir, "tiny.disk")
	w.ok("bundle", "disk", "--file", w.path("tiny.gguf"), "--out", disk)
	return disk
}

// inferred asks the two agents, whose models differ by an adapter.
func (w *workplace) inferred(t *testing.T) {
	said := map[string]string{}
	for _, agent := range []string{"plain", "tuned"} {
		code, out, words := w.ask("invoke", agent, "--input", w.say("who", "Who are you?"))
		var answer struct {
			Choices []struct{ Message struct{ Content string } }
		}
		if code != exitOK || json.Unmarshal([]byte(out), &answer) != nil || len(answer.Choices) != 1 || len(answer.Choices[0].Message.Content) != 16 {
			_, list, _ := w.ask("agents", "--once")
			_, lines, _ := w.ask("agents", "--output", "llama+base", "--caller-key", w.path("boss"))
			t.Fatalf("%s: exit code %d: %q, %s; the engine wrote\n%s\n%s", agent, code, out, words, lines, list)
		}
		said[agent] = answer.Choices[0].Message.Content
	}
	if said["plain"] == said["tuned"] {
		t.Errorf("with and without the adapter the model says %q", said["plain"])
	}
}
