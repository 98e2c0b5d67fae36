package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"omega/internal/skip"
)

const devTestPolicy = `version: omega/policy/v1
platform: laptop
principals:
  - {name: writer, key: writer.pub, roles: [author], names: ["*"]}
auditors:
  - {name: nobody, key: "%s"}
agents:
  - name: hello
    requires: [{role: author, principal: writer}]
    permits: []
`

// devAgentFolder is an agent in a folder, and a policy that names it by a key
// whose other half nobody has.
func devAgentFolder(t *testing.T) (folder, policy string) {
	t.Helper()
	dir := t.TempDir()
	folder, policy = filepath.Join(dir, "hello"), filepath.Join(dir, "policy.yaml")
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	keys := demoKeys{dir: t.TempDir()}
	if _, err := keys.signer("writer"); err != nil {
		t.Fatal(err)
	}
	public, err := os.ReadFile(keys.path("writer.pub"))
	if err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(dir, "writer.pub"), string(public))
	write(policy, fmt.Sprintf(devTestPolicy, strings.Repeat("5a", 32)))
	write(filepath.Join(folder, "agent.json"), `{"name":"hello","command":["/hello"]}`)
	write(filepath.Join(folder, "root", "word"), "one")
	cmd := exec.Command("go", "build", "-o", filepath.Join(folder, "root", "hello"), "./testdata/dev")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return folder, policy
}

// An agent's folder runs, is seen with the verbs for platforms, and what is
// edited runs in its place. The same evidence proves nothing to anybody else.
func TestAnAgentsFolderRunsAndItsEditsToo(t *testing.T) {
	if os.Geteuid() != 0 {
		skip.Missing(t, "root is needed for namespaces and gVisor")
	}
	if os.Getenv("OMEGA_SKIP_VM") != "" {
		t.Skip("OMEGA_SKIP_VM is set")
	}
	folder, policy := devAgentFolder(t)
	port := freeTestPort(t)
	ctx, cancel := context.WithCancel(t.Context())
	said, ended := &words{}, make(chan error, 1)
	go func() {
		e := &env{Stdin: strings.NewReader(""), Stdout: said, Stderr: said}
		ended <- runDev(ctx, e, []string{"--policy", policy, "--port", fmt.Sprint(port), folder})
	}()
	stop := func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("ended with %v; it said\n%s", err, said)
		}
	}
	defer stop()
	url := fmt.Sprintf("https://127.0.0.1:%d", port)
	waitSaid(t, said, "omega: agent hello started", ended)
	output := func(instance string) string {
		var out bytes.Buffer
		for range 50 { // lines come through the sandbox's pipe
			out.Reset()
			if err := runAgents(t.Context(), &env{Stdout: &out, Stderr: said}, []string{url, "--dev", "--output", instance}); err != nil {
				t.Fatalf("%v; it said\n%s", err, said)
			}
			if strings.Contains(out.String(), "word") {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		return out.String()
	}
	if got := output("hello"); !strings.Contains(got, "the word is one") {
		t.Errorf("the agent wrote %q", got)
	}
	if err := os.WriteFile(filepath.Join(folder, "root", "word"), []byte("two!"), 0o644); err != nil {
		t.Fatal(err)
	}
	waitSaid(t, said, "changed: hello-2", ended)
	if got := output("hello-2"); !strings.Contains(got, "the word is two!") {
		t.Errorf("the edited agent wrote %q", got)
	}
	t.Run("it is no platform to anybody else", func(t *testing.T) {
		dir, err := devDir()
		if err != nil {
			t.Fatal(err)
		}
		e := &env{Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}}
		err = runVerify(t.Context(), e, []string{url, "--manifest", filepath.Join(dir, "manifest.json"), "--manifest-unsigned",
			"--allow-emulated", filepath.Join(filepath.Dir(dir), "psp")})
		if exitCode(err) != exitMismatch || !strings.Contains(err.Error(), "dev") {
			t.Errorf("exit code %d: %v", exitCode(err), err)
		}
	})
}

// waitSaid waits until words were said.
func waitSaid(t *testing.T, said *words, what string, ended <-chan error) {
	t.Helper()
	for deadline := time.Now().Add(vmTime); !strings.Contains(said.String(), what); time.Sleep(50 * time.Millisecond) {
		select {
		case err := <-ended:
			t.Fatalf("ended: %v; it said\n%s", err, said)
		default:
		}
		if time.Now().After(deadline) || strings.Contains(said.String(), " refused ") {
			t.Fatalf("nothing said %q:\n%s", what, said)
		}
	}
}
