package main

import (
	"context"
	"fmt"
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

// The agent on Node and the official SDKs does in a sandbox what the demo's does:
// it is refused one call because of its argument, reads why, and finishes.
func TestANodeAgentOnTheOfficialSDKsFinishesItsTask(t *testing.T) {
	if os.Geteuid() != 0 {
		skip.Missing(t, "root is needed for namespaces and gVisor")
	}
	if os.Getenv("OMEGA_SKIP_VM") != "" {
		t.Skip("OMEGA_SKIP_VM is set")
	}
	w := newDevWorld(t)
	folder := w.folder(t, "node")
	ctx, cancel := context.WithCancel(t.Context())
	said, ended := &words{}, make(chan error, 1)
	go func() {
		e := &env{Stdin: strings.NewReader(""), Stdout: said, Stderr: said}
		ended <- runDev(ctx, e, append([]string{"--policy", w.policy, "--port", fmt.Sprint(freeTestPort(t)), folder}, w.dial...))
	}()
	waitSaid(t, said, "omega: agent assistant exited", ended)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, want := range []string{"refused: ", "/public", "exited 0"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("nothing said %q", want)
		}
	}
	notes, err := os.ReadFile(w.world.record("notes"))
	if err != nil || !strings.Contains(string(notes), "Open the second workshop") {
		t.Errorf("the note is %q, error %v", notes, err)
	}
	if t.Failed() {
		t.Log(said)
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
