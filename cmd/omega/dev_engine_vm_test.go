package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"omega/images"
	"omega/internal/cache"
	"omega/internal/gguf"
	"omega/internal/skip"
)

const enginePolicy = `version: omega/policy/v1
platform: laptop
principals:
  - {name: writer, key: writer.pub, roles: [author], names: ["*"]}
  - {name: maker, key: writer.pub, roles: [engine], names: [llama]}
  - {name: lab, key: writer.pub, roles: [model, adapter], names: ["*"]}
auditors:
  - {name: nobody, key: "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a"}
models:
  - {name: tiny, engine: llama, max_tokens: 64}
agents:
  - {name: llama, requires: [{role: engine, principal: maker}, {role: model, principal: lab}], permits: []}
  - name: plain
    requires: [{role: author, principal: writer}, {role: engine, principal: maker}, {role: model, principal: lab}]
    permits: [{id: ask-plain, action: llm.chat, resource: tiny}]
  - name: other
    requires: [{role: author, principal: writer}, {role: engine, principal: maker}, {role: model, principal: lab}]
    permits: [{id: ask-other, action: llm.chat, resource: tiny}]
  - name: tuned
    requires: [{role: author, principal: writer}, {role: engine, principal: maker}, {role: model, principal: lab}, {role: adapter, principal: lab}]
    permits: [{id: ask-tuned, action: llm.chat, resource: tiny}]
`

// engineFolders are an engine of llama.cpp and three agents of it: two with the
// model as it is, one with an adapter of its own.
func engineFolders(t *testing.T) (folders []string, policy string) {
	t.Helper()
	c, err := cache.Open("")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(path string, text []byte) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	keys := demoKeys{dir: dir}
	if _, err := keys.signer("writer"); err != nil {
		t.Fatal(err)
	}
	policy = filepath.Join(dir, "policy.yaml")
	write(policy, []byte(enginePolicy))
	asker := filepath.Join(dir, "asker")
	build := exec.Command("go", "build", "-o", asker, "./testdata/asker")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const agent = `{"name":%q,"command":["/asker"],"models":["tiny"],"serve":{"port":8000},"model":{"name":"tiny.gguf"},"inference":{"engine":"llama"}%s}`
	for _, a := range []struct{ name, manifest string }{
		{"llama", `{"name":"llama","model":{"name":"tiny.gguf"},"serve":{"port":8080,"health":"/health"},"engine":{"adapter_args":["--lora","{path}"],"processes":2},
			"command":["/usr/bin/llama-server","--model","/models/tiny.gguf","--host","127.0.0.1","--port","8080","--ctx-size","512","--parallel","2","--threads","1","--no-ui","--cache-ram","0"]}`},
		{"plain", fmt.Sprintf(agent, "plain", "")},
		{"other", fmt.Sprintf(agent, "other", "")},
		{"tuned", fmt.Sprintf(agent, "tuned", `,"adapters":[{"name":"tuned.gguf"}]`)},
	} {
		folder := filepath.Join(dir, a.name)
		write(filepath.Join(folder, "agent.json"), []byte(a.manifest))
		write(filepath.Join(folder, "files", "model", "tiny.gguf"), gguf.Model(1))
		write(filepath.Join(folder, "files", "adapter", "tuned.gguf"), gguf.Adapter(2))
		if a.name == "llama" {
			if err := images.LlamaCPP(t.Context(), c, nil, filepath.Join(folder, "root")); err != nil {
				skip.Missing(t, "no llama.cpp: %v", err)
			}
		} else if err := os.Mkdir(filepath.Join(folder, "root"), 0o755); err != nil {
			t.Fatal(err)
		} else if err := os.Link(asker, filepath.Join(folder, "root", "asker")); err != nil {
			t.Fatal(err)
		}
		folders = append(folders, folder)
	}
	return folders, policy
}

// A real engine answers sandboxed agents through the gateway. One agent's adapter
// is never another's, and nothing of one's prompt is kept for the next.
func TestAnEngineAnswersEachAgentWithItsOwnAdapter(t *testing.T) {
	if os.Geteuid() != 0 {
		skip.Missing(t, "root is needed for namespaces and gVisor")
	}
	if os.Getenv("OMEGA_SKIP_VM") != "" {
		t.Skip("OMEGA_SKIP_VM is set")
	}
	folders, policy := engineFolders(t)
	port := freeTestPort(t)
	ctx, cancel := context.WithCancel(t.Context())
	said, ended := &words{}, make(chan error, 1)
	go func() {
		defer close(ended) // it is waited for twice where it did not begin
		e := &env{Stdin: strings.NewReader(""), Stdout: said, Stderr: said}
		ended <- runDev(ctx, e, append([]string{"--policy", policy, "--port", fmt.Sprint(port)}, folders...))
	}()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("ended with %v; it said\n%s", err, said)
		}
	}()
	waitSaid(t, said, "omega: ready", ended)
	url := fmt.Sprintf("https://127.0.0.1:%d", port)
	ask := func(agent, input string) string {
		t.Helper()
		var out bytes.Buffer
		if err := runInvoke(t.Context(), &env{Stdin: strings.NewReader(input), Stdout: &out, Stderr: said}, []string{url, agent, "--dev"}); err != nil {
			t.Fatalf("%s: %v; it said\n%s", agent, err, said)
		}
		return out.String()
	}
	complete := func(agent string) string {
		t.Helper()
		var answer struct {
			Choices []struct{ Message struct{ Content string } }
			Usage   struct {
				Details struct {
					Cached *int `json:"cached_tokens"`
				} `json:"prompt_tokens_details"`
			}
		}
		text := ask(agent, "Who are you?")
		if err := json.Unmarshal([]byte(text), &answer); err != nil || len(answer.Choices) != 1 || len(answer.Choices[0].Message.Content) != 16 {
			var lines bytes.Buffer
			_ = runAgents(t.Context(), &env{Stdout: &lines, Stderr: said}, []string{url, "--dev", "--output", "llama+base"})
			t.Fatalf("%s: %q, %v; the engine wrote\n%s\nit said\n%s", agent, text, err, &lines, said)
		}
		if n := answer.Usage.Details.Cached; n == nil || *n != 0 {
			t.Errorf("%s: the engine says that it had some of the prompt already: %s", agent, text)
		}
		return answer.Choices[0].Message.Content
	}
	first := complete("plain")
	if again, other := complete("plain"), complete("other"); again != first || other != first {
		t.Errorf("the same model says %q, %q and %q", first, again, other)
	}
	tuned := complete("tuned")
	if tuned == first {
		t.Errorf("with its adapter the model says the same: %q", tuned)
	}
	if after := complete("plain"); after != first {
		t.Errorf("beside an agent with an adapter another one is told %q, not %q", after, first)
	}
	if got := ask("tuned", "files"); got != "0 models, 0 adapters" {
		t.Errorf("the agent sees %s, which are its engine's", got)
	}
	var list bytes.Buffer
	if err := runAgents(t.Context(), &env{Stdout: &list, Stderr: said}, []string{url, "--dev", "--once"}); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(list.String(), "llama+"); n != 2 {
		t.Errorf("%d processes of the engine, want one for each set of adapters:\n%s", n, list.String())
	}
}
