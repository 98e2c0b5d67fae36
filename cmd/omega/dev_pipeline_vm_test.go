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

	"omega/internal/skip"
)

// devRun is `omega dev` with some folders in a world, until the test ends.
func (w *devWorld) devRun(t *testing.T, policy string, folders ...string) (url string, said *words, ended <-chan error) {
	t.Helper()
	port := freeTestPort(t)
	ctx, cancel := context.WithCancel(t.Context())
	said = &words{}
	done, closed := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(closed)
		e := &env{Stdin: strings.NewReader(""), Stdout: said, Stderr: said}
		args := append([]string{"--policy", policy, "--port", fmt.Sprint(port)}, folders...)
		done <- runDev(ctx, e, append(args, w.dial...))
	}()
	t.Cleanup(func() {
		cancel()
		<-closed
		if t.Failed() {
			t.Logf("it said\n%s", said)
		}
	})
	return fmt.Sprintf("https://127.0.0.1:%d", port), said, done
}

// The examples in Go: an agent alone, and two of them with a tool server in a sandbox, each with rights of its own.
func TestTheExamplesInGoDoTheirWork(t *testing.T) {
	if os.Geteuid() != 0 {
		skip.Missing(t, "root is needed for namespaces and gVisor")
	}
	if os.Getenv("OMEGA_SKIP_VM") != "" {
		t.Skip("OMEGA_SKIP_VM is set")
	}
	w := newDevWorld(t)
	t.Run("an agent", func(t *testing.T) {
		folder := w.folder(t, "planner")
		_, said, ended := w.devRun(t, w.policy, folder)
		waitSaid(t, said, "omega: agent planner exited", ended)
		for _, want := range []string{"refused: ", "/public", "exited 0"} {
			if !strings.Contains(said.String(), want) {
				t.Errorf("nothing said %q", want)
			}
		}
	})
	t.Run("two agents and a tool", func(t *testing.T) {
		examples, dir := filepath.Join("..", "..", "examples", "pipeline"), t.TempDir()
		if out, err := exec.CommandContext(t.Context(), filepath.Join(examples, "build"), dir).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		text, err := os.ReadFile(filepath.Join(examples, "policy.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		policy := filepath.Join(w.dir, "pipeline.yaml") // beside the keys and the trust roots
		if err := os.WriteFile(policy, text, 0o644); err != nil {
			t.Fatal(err)
		}
		var folders []string
		for _, name := range []string{"notebook", "writer", "researcher"} {
			folders = append(folders, filepath.Join(dir, name))
		}
		url, said, ended := w.devRun(t, policy, folders...)
		waitSaid(t, said, "omega: ready", ended)
		for n := 1; n <= 2; n++ {
			var out bytes.Buffer
			e := &env{Stdin: strings.NewReader("What does the brief ask for?"), Stdout: &out, Stderr: said}
			want := fmt.Sprintf("(line %d kept)", n)
			if err := runInvoke(t.Context(), e, []string{url, "researcher", "--dev"}); err != nil || !strings.HasPrefix(out.String(), "The brief asks for: ") || !strings.HasSuffix(out.String(), want) {
				t.Fatalf("%q, %v, want %q", out.String(), err, want)
			}
		}
	})
}
