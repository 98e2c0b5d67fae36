package images

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"omega/internal/cache"
	"omega/internal/labelhash"
)

// Debian's llama.cpp for CPUs, with the libraries below it, as one consistent set of
// a suite that moves on. Only a test and an example bundle have it: Debian's
// signature is what is trusted here, and the bundle's digest is what pins it there.
const llamaSuite = "sid"

var llamaPackages = []string{"llama.cpp-tools", "libllama0", "libggml0", "libc6", "libgcc-s1", "libstdc++6", "libgomp1", "libssl3t64", "zlib1g", "libzstd1"}

// llamaLibraries is where Debian's libraries for amd64 lie.
const llamaLibraries = "usr/lib/x86_64-linux-gnu"

// llamaFiles are what the server needs of the packages.
var llamaFiles = []string{
	"usr/bin/llama-server",
	llamaLibraries + "/llama/libllama-server-impl.so",
	llamaLibraries + "/ggml/backends0/*.so",
	llamaLibraries + "/libllama-common.so.0", llamaLibraries + "/libmtmd.so.0", llamaLibraries + "/libllama.so.0",
	llamaLibraries + "/libggml.so.0", llamaLibraries + "/libggml-base.so.0", llamaLibraries + "/libgomp.so.1",
	llamaLibraries + "/libstdc++.so.6", llamaLibraries + "/libgcc_s.so.1", llamaLibraries + "/libssl.so.3",
	llamaLibraries + "/libcrypto.so.3", llamaLibraries + "/libz.so.1", llamaLibraries + "/libzstd.so.1",
	llamaLibraries + "/libm.so.6", llamaLibraries + "/libc.so.6", llamaLibraries + "/ld-linux-x86-64.so.2",
}

// LlamaCPP makes dir the root of an image with llama-server, fetched once.
func LlamaCPP(ctx context.Context, c *cache.Cache, r Report, dir string) error {
	tree, err := llamaTree(ctx, c, r)
	if err != nil {
		return err
	}
	for _, pattern := range llamaFiles {
		found, err := filepath.Glob(filepath.Join(tree, pattern))
		if err != nil || len(found) == 0 {
			return fmt.Errorf("llama.cpp: no %s in %s's packages", pattern, llamaSuite)
		}
		for _, from := range found {
			if err := linkFile(tree, from, dir); err != nil {
				return fmt.Errorf("llama.cpp: %w", err)
			}
		}
	}
	// Where programs name their loader (System V ABI for AMD64).
	return os.Symlink(llamaLibraries, filepath.Join(dir, "lib64"))
}

// linkFile puts one file of the tree at the same place below dir, without its
// symlinks.
func linkFile(tree, from, dir string) error {
	rel, err := filepath.Rel(tree, from)
	if err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(from)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(real)
	if err != nil {
		return err
	}
	to := filepath.Join(dir, rel)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o755)
}

// llamaTree is the folder that the packages are unpacked in.
func llamaTree(ctx context.Context, c *cache.Cache, r Report) (string, error) {
	parts := [][]byte{[]byte(llamaSuite)}
	for _, p := range llamaPackages {
		parts = append(parts, []byte(p))
	}
	return c.Dir(ctx, "engine", cache.Key(labelhash.Sum256("omega/llama/v1", parts...)), func(dir string) error {
		step := r.begin("fetching llama.cpp")
		defer step.Done()
		debs := filepath.Join(dir, ".debs")
		if err := os.Mkdir(debs, 0o755); err != nil {
			return err
		}
		a := &apt{dir: filepath.Join(c.Root(), "apt")}
		if err := a.newest(ctx, llamaSuite, llamaPackages, debs); err != nil {
			return fmt.Errorf("fetching llama.cpp from %s: %w", llamaSuite, err)
		}
		list, err := filepath.Glob(filepath.Join(debs, "*.deb"))
		if err != nil || len(list) != len(llamaPackages) {
			return fmt.Errorf("fetching llama.cpp: %d packages arrived, want %d", len(list), len(llamaPackages))
		}
		for _, deb := range list {
			if err := run(ctx, job{args: []string{"dpkg-deb", "-x", deb, dir}}); err != nil {
				return fmt.Errorf("unpacking %s: %w", filepath.Base(deb), err)
			}
		}
		return os.RemoveAll(debs)
	})
}
