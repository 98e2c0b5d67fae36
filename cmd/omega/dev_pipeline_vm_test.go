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

// python asks an agent that was started ahead.
func (w *devWorld) python(t *testing.T) {
	folder := w.folder(t, "python")
	url, said, ended := w.devRun(t, w.policy, folder)
	waitSaid(t, said, "omega: ready", ended)
	// The pool waits until nobody starts anything. A session that comes too early costs a cold start, no more.
	time.Sleep(5 * time.Second)
	run := func(verb func(context.Context, *env, []string) error, input string, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		if err := verb(t.Context(), &env{Stdin: strings.NewReader(input), Stdout: &out, Stderr: said}, append([]string{url, "--dev"}, args...)); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	begin := time.Now()
	if got := run(runInvoke, "Plan the next quarter: read the brief, and append a note.", "analyst"); got != "The plan is written." {
		t.Errorf("it answered %q", got)
	}
	t.Logf("the task took %s", time.Since(begin))
	w.wantOneNote(t)
	if wrote := run(runAgents, "", "--output", "analyst+s1"); !strings.Contains(wrote, "refused: ") || !strings.Contains(wrote, "/public") {
		t.Errorf("nothing says that a call was refused, and why: %s", wrote)
	}
}

// pipeline asks one agent, which tells another, which keeps what it is told.
func (w *devWorld) pipeline(t *testing.T) {
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
}
