package main

import (
	"context"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"omega/internal/skip"
)

// devWorld is the demo's world for agents that run without a machine: its
// providers, its policy with their trust roots beside it, and where they are.
type devWorld struct {
	policy string   // of the example
	dial   []string // arguments
	world  *world
	dir    string
	notes  int // that agents of earlier tests wrote
}

func newDevWorld(t *testing.T) *devWorld {
	t.Helper()
	source, err := sourceRoot()
	if err != nil {
		t.Fatal(err)
	}
	w := &devWorld{dir: t.TempDir()}
	keys, err := openDemoKeys(filepath.Join(w.dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	d := &demo{e: &env{Stdin: strings.NewReader(""), Stdout: t.Output(), Stderr: t.Output()}, source: source, dir: w.dir, keys: keys}
	if _, err := d.writePolicy(); err != nil { // the providers' trust roots come with it
		t.Fatal(err)
	}
	if err := buildExamples(t.Context(), d.e, source, d.programs()); err != nil {
		t.Fatal(err)
	}
	if w.world, err = startWorld(context.WithoutCancel(t.Context()), keys, d.programs(), w.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.world.stop)
	for from, to := range maps.All(w.world.dial) {
		_, port, err := net.SplitHostPort(to)
		if err != nil {
			t.Fatal(err)
		}
		w.dial = append(w.dial, "--dial", from+"=127.0.0.1:"+port)
	}
	return w
}

// folder makes an agent folder of an example, with the descriptors of the tool
// servers that it uses.
func (w *devWorld) folder(t *testing.T, example string) string {
	t.Helper()
	from, to := filepath.Join("..", "..", "examples", "agents", example), filepath.Join(w.dir, "agent-"+example)
	if err := os.MkdirAll(filepath.Join(to, "tools"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.policy = filepath.Join(w.dir, "policy.yaml")
	for path, name := range map[string]string{filepath.Join(to, "agent.json"): "agent.json", w.policy: "policy.yaml"} {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, server := range []string{"files", "notes"} {
		out, err := exec.CommandContext(t.Context(), programIn(filepath.Join(w.dir, "programs"), server), "-descriptors").Output()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, "tools", server+".json"), out, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(from, "build"), filepath.Join(to, "root"))
	if out, err := cmd.CombinedOutput(); err != nil {
		skip.Missing(t, "building the example (npm and a network are needed): %v\n%s", err, out)
	}
	return to
}

// TestTheExamplesDoTheirWork runs each of examples/ that people start from in `omega dev`, against providers of their
// own: what each is refused it reads, and finishes another way.
func TestTheExamplesDoTheirWork(t *testing.T) {
	if os.Geteuid() != 0 {
		skip.Missing(t, "root is needed for namespaces and gVisor")
	}
	if os.Getenv("OMEGA_SKIP_VM") != "" {
		t.Skip("OMEGA_SKIP_VM is set")
	}
	w := newDevWorld(t)
	t.Run("an agent in Go", func(t *testing.T) { w.finishes(t, "planner", "planner") })
	t.Run("an agent on Node and the official SDKs", func(t *testing.T) { w.finishes(t, "node", "assistant") })
	t.Run("an agent on Python and the official SDKs, from the pool", w.python)
	t.Run("two agents and a tool in a sandbox", w.pipeline)
}

// finishes runs an agent that has a task, is refused one call because of its argument, reads why, and ends well.
func (w *devWorld) finishes(t *testing.T, example, agent string) {
	folder := w.folder(t, example)
	_, said, ended := w.devRun(t, w.policy, folder)
	for _, want := range []string{"omega: agent " + agent + " exited 0", "refused: ", "/public"} { // dev prints an agent's words after a while
		waitSaid(t, said, want, ended)
	}
	w.wantOneNote(t)
}

// wantOneNote demands that one note more has reached its provider.
func (w *devWorld) wantOneNote(t *testing.T) {
	t.Helper()
	defer func() { w.notes++ }()
	record, err := os.ReadFile(w.world.record("notes"))
	if got := strings.Count(string(record), "Open the second workshop"); err != nil || got != w.notes+1 {
		t.Errorf("%d notes, not one more than %d: %s, %v", got, w.notes, record, err)
	}
}

func freeTestPort(t *testing.T) int {
	t.Helper()
	port, err := freePort(0)
	if err != nil {
		t.Fatal(err)
	}
	return port
}
