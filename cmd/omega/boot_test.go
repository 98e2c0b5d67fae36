package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"omega/internal/cache"
)

// bootEnv is an environment whose words end in the test's log.
func bootEnv(t *testing.T) *env {
	t.Helper()
	words := new(bytes.Buffer)
	t.Cleanup(func() { t.Log(words.String()) })
	return &env{Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: words}
}

// needQEMU skips where there is none; fetching one is the VM tests' matter.
func needQEMU(t *testing.T) {
	t.Helper()
	if os.Getenv("OMEGA_SKIP_VM") != "" {
		t.Skip("OMEGA_SKIP_VM is set")
	}
	if _, err := cache.Open(""); err != nil {
		t.Skip(err)
	}
}

func TestBootNamesWhatIsWrongBeforeItStartsAnything(t *testing.T) {
	needQEMU(t)
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	big := filepath.Join(dir, "big.json")
	if err := os.WriteFile(big, make([]byte, maxConfigText+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"kernel", "initrd", "cmdline", "ovmf.fd"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name string
		o    bootOptions
		want string
	}{
		{"a port in use", bootOptions{Artifacts: dir, Port: taken.Addr().(*net.TCPAddr).Port}, "--port N"},
		{"no artifacts", bootOptions{Artifacts: filepath.Join(dir, "none")}, "omega build"},
		{"no launch config", bootOptions{Artifacts: dir, Config: filepath.Join(dir, "none.json")}, "launch config"},
		{"a launch config that is too large", bootOptions{Artifacts: dir, Config: big}, "more than 65536"},
		{"no log disk", bootOptions{Artifacts: dir, LogDisk: filepath.Join(dir, "none.raw")}, "log disk"},
		{"firmware that is none", bootOptions{Artifacts: dir, Plain: true, Accel: "tcg"}, "launch digest"},
		{"an accelerator that is none", bootOptions{Artifacts: dir, Plain: true, Accel: "warp"}, "accelerator"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			left := ownTemp(t)
			v, err := startVM(context.Background(), bootEnv(t), tt.o)
			if err == nil {
				_ = v.Stop(context.Background())
				t.Fatal("it booted")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q has no %q", err, tt.want)
			}
			if names := left(); len(names) > 0 {
				t.Errorf("left behind: %q", names)
			}
		})
	}
}

// ownTemp gives the test a temporary folder that no other process uses, with a
// name short enough for sockets, and returns what was left in it.
func ownTemp(t *testing.T) (left func() []string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "o")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("TMPDIR", dir)
	return func() []string {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
}

func TestBootRefusesStrayArguments(t *testing.T) {
	if err := runBoot(context.Background(), bootEnv(t), []string{"extra"}); err == nil {
		t.Error("a stray argument was taken")
	}
}
