// Package vectors finds the test vectors that the project did not make. It is
// for tests only and copies nothing.
package vectors

import (
	"os"
	"path/filepath"
	"testing"

	"omega/internal/skip"
)

// Dir is the folder of the test vectors: $OMEGA_VECTORS, or ../shared/vectors
// beside the module. It skips the test where there is none.
func Dir(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("OMEGA_VECTORS")
	if dir == "" {
		dir = filepath.Join(moduleRoot(t), "..", "shared", "vectors")
	}
	if _, err := os.Stat(filepath.Join(dir, "README.md")); err != nil {
		skip.Missing(t, "test vectors: not in %s; set OMEGA_VECTORS to their folder", dir)
	}
	return dir
}

// Read is one file of the test vectors.
func Read(t testing.TB, name ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{Dir(t)}, name...)...))
	if err != nil {
		t.Fatalf("test vector: %v", err)
	}
	return b
}

func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatalf("module root: %v", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("module root: no go.mod above the test")
		}
		dir = up
	}
}
