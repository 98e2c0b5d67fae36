// Package puretest gives tests their own binary as the guest would have it:
// static, without C. The race detector and C threads make system calls and
// block Go's all-thread calls, so filters and privileges cannot be tested in a
// binary that has them. It is a test helper and part of no program.
package puretest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"testing"
)

// Binary returns a test binary of the package under test, built without cgo:
// the running one if it is, else a fresh one.
func Binary(t testing.TB) string {
	t.Helper()
	info, ok := debug.ReadBuildInfo()
	if ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "CGO_ENABLED", Value: "0"}) {
		return os.Args[0]
	}
	out := filepath.Join(t.TempDir(), "pure.test")
	cmd := exec.Command("go", "test", "-c", "-o", out, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building a static test binary: %v\n%s", err, b)
	}
	return out
}
