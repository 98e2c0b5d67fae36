package sandbox

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// cgroupRoot finds a cgroup v2 tree that can limit memory, or skips.
func cgroupRoot(t *testing.T) string {
	t.Helper()
	const root = "/sys/fs/cgroup"
	b, err := os.ReadFile(root + "/cgroup.controllers")
	if err != nil || !strings.Contains(string(b), "memory") {
		t.Skip("no cgroup v2 with the memory controller here; the guest has one")
	}
	return root
}

func TestLimitsAreEnforced(t *testing.T) {
	root := cgroupRoot(t)
	s := setUp(t)
	group := filepath.Join(root, fmt.Sprintf("omega-test-%d", os.Getpid()))
	runner, err := New(Config{Runsc: s.runner.cfg.Runsc, Dir: filepath.Join(s.dir, "limited"), Cgroup: group, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for word, limits := range map[string]Limits{
		"hog":   {MemoryBytes: 64 << 20},
		"breed": {Processes: 8},
	} {
		box, err := runner.Start(t.Context(), Spec{Instance: word, Image: s.image, Command: []string{"/agent", word}, Link: link(t), Limits: limits})
		if err != nil {
			t.Fatal(err)
		}
		exit := wait(t, box)
		if word == "hog" && exit.Code != 128+int(syscall.SIGKILL) || strings.Contains(strings.Join(exit.LastLines, ""), "FAIL") {
			t.Errorf("%s: %+v", word, exit)
		}
	}
	if err := runner.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(group); err == nil {
		t.Error("cgroup left behind")
	}
}

func TestLimitsAreWrittenAsTheKernelTakesThem(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"cgroup.subtree_control", "agents/cgroup.subtree_control", "agents/pids.max"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := prepareCgroup(filepath.Join(dir, "agents")); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "agents/cgroup.subtree_control")); string(b) != "+memory +cpu +pids +io" {
		t.Errorf("controllers %q", b)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "agents/pids.max")); string(b) != "16384" {
		t.Errorf("all sandboxes together may have %q tasks", b)
	}
	for _, s := range (Spec{Limits: Limits{Processes: 1 << 16}}).settings() {
		if s.file == "pids.max" && s.value != "8448" {
			t.Errorf("a bundle that wants everything gets %s tasks", s.value)
		}
	}
	got := map[string]string{}
	spec := Spec{Limits: Limits{MemoryBytes: 100 << 20, CPUMillis: 1500, Processes: 10, IOBytes: 1 << 20}, Files: []File{
		{Path: "/models/a", Device: "253:0"}, {Path: "/data/b", Device: "253:0"}, {Path: "/data/in-memory"},
	}}
	for _, s := range spec.settings() {
		got[s.file] = s.value
	}
	want := map[string]string{"memory.max": "205520896", "memory.oom.group": "1", "cpu.max": "150000 100000", "pids.max": "296", "io.max": "253:0 rbps=1048576"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEnvironmentIsWhatLibrariesLookFor(t *testing.T) {
	got, err := Env(map[string]string{"MODE": "x", "OPENAI_BASE_URL": "http://evil", "OMEGA_LINK_FD": "0", "MCP_FILES_URL": "http://evil"}, []string{"files", "my-notes.v2"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"HOME=/tmp",
		"MCP_FILES_URL=http://127.0.0.1:3128/mcp/files",
		"MCP_MY_NOTES_V2_URL=http://127.0.0.1:3128/mcp/my-notes.v2",
		`MCP_SERVERS={"files":"http://127.0.0.1:3128/mcp/files","my-notes.v2":"http://127.0.0.1:3128/mcp/my-notes.v2"}`,
		"MODE=x",
		"OPENAI_API_KEY=unused",
		"OPENAI_BASE_URL=http://127.0.0.1:3128/v1",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
