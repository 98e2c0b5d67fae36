package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"omega/agentloader/bundle"
)

// The policy of the examples' engines compiles: for `omega dev`, its keys are examples.
func TestThePolicyOfTheEnginesCompiles(t *testing.T) {
	out, _, err := devPolicy(filepath.Join("..", "..", "examples", "engines", "policy.yaml"), t.TempDir())
	if err != nil || len(out.Document.Agents) != 2 {
		t.Fatalf("%+v, %v", out, err)
	}
}

// The engines of the examples are bundles that a platform would take, once the
// digest of a model stands in them; those for a GPU ask for one.
func TestTheEnginesOfTheExamplesAreBundles(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "examples", "engines", "*", "agent.json"))
	if err != nil || len(files) != 3 {
		t.Fatalf("%v, %v", files, err)
	}
	digest := bundle.DigestOf([]byte("model")).String()
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		whole := strings.Replace(string(text), `"name": "llama"`, `"version":"omega/agent/v1","image":{"digest":"`+digest+`","size":9},"name":"llama"`, 1)
		m, err := bundle.ParseManifest([]byte(strings.Replace(whole, `{"name": "model.gguf"}`, `{"name":"model.gguf","digest":"`+digest+`","size":4096,"root":"`+digest+`"}`, 1)))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if name := filepath.Base(filepath.Dir(file)); m.Engine == nil || m.Engine.GPU != (name != "llama") || m.Serve.Health == "" {
			t.Errorf("%s: %+v", file, m)
		}
	}
}
