package cgroup

import (
	"os"
	"path/filepath"
	"testing"
)

// The kernel makes the files of a cgroup itself; here they are made ahead.
func prepared(t *testing.T, files ...string) Tree {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(f)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Tree{Dir: dir}
}

func TestAChildGetsItsOwnLimits(t *testing.T) {
	tree := prepared(t, "cgroup.subtree_control", "omega/x")
	f, err := tree.Make("log", 1<<20, 64)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for file, want := range map[string]string{"memory.max": "1048576", "pids.max": "64"} {
		b, err := os.ReadFile(filepath.Join(tree.Dir, "omega/log", file))
		if err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", file, b, err)
		}
	}
	if _, err := tree.Make("log", 0, 64); err == nil {
		t.Error("a second child got the same cgroup")
	}
}

func TestNoLimitOnMemoryWritesNone(t *testing.T) {
	tree := prepared(t, "omega/x")
	f, err := tree.Make("fetcher", 0, 8)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := os.Stat(filepath.Join(tree.Dir, "omega/fetcher/memory.max")); !os.IsNotExist(err) {
		t.Errorf("memory.max: %v", err)
	}
}
