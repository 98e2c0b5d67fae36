package images

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"omega/internal/cache"
	"omega/internal/labelhash"
)

// goFlags make a Go program depend on its sources and the compiler alone.
var goFlags = []string{"-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid="}

// goSettings replace whatever the user's environment says.
var goSettings = []string{
	"CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1",
	"GOFLAGS=", "GOEXPERIMENT=", "GODEBUG=", "GOFIPS140=off", "GOWORK=off", "GOTOOLCHAIN=local",
}

// goBuild compiles the program pkg of the module in dir to out, and refuses a
// result that may not go into the image.
func goBuild(ctx context.Context, dir, pkg, out string) error {
	args := append(append([]string{"go", "build"}, goFlags...), "-o", out, pkg)
	env := append(os.Environ(), goSettings...) // the last one of a name counts
	if err := run(ctx, job{dir: dir, env: env, args: args}); err != nil {
		return fmt.Errorf("building %s: %w", pkg, err)
	}
	return CheckProgram(out, dir)
}

// CheckProgram refuses a program that is not what an image may carry: linked
// dynamically, weakened by GODEBUG defaults, not built by this Go, or naming
// the folder dir that it was built in.
func CheckProgram(path, dir string) error {
	name := filepath.Base(path)
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("program: %w", err)
	}
	info, err := buildinfo.Read(bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("program %s: %w", name, err)
	}
	if info.GoVersion != runtime.Version() {
		return fmt.Errorf("program %s: built by %s, but omega itself by %s", name, info.GoVersion, runtime.Version())
	}
	if err := checkSettings(info.Settings); err != nil {
		return fmt.Errorf("program %s: %w", name, err)
	}
	if err := checkStatic(b); err != nil {
		return fmt.Errorf("program %s: %w", name, err)
	}
	if abs, err := filepath.Abs(dir); err != nil || len(abs) > 1 && bytes.Contains(b, []byte(abs+"/")) {
		return fmt.Errorf("program %s: names its build folder %s", name, abs)
	}
	return nil
}

// checkSettings reads what the Go linker wrote about the build.
func checkSettings(list []debug.BuildSetting) error {
	want := map[string]string{"CGO_ENABLED": "0", "-trimpath": "true", "GOARCH": "amd64", "GOOS": "linux"}
	for _, s := range list {
		// An old go line in go.mod turns on TLS 1.0 and 1024-bit RSA this way.
		if s.Key == "DefaultGODEBUG" {
			return fmt.Errorf("weakened by DefaultGODEBUG=%s", s.Value)
		}
		if strings.HasPrefix(s.Key, "vcs") {
			return fmt.Errorf("carries %s, which depends on the checkout", s.Key)
		}
		if v, ok := want[s.Key]; ok {
			if v != s.Value {
				return fmt.Errorf("built with %s=%s, want %s", s.Key, s.Value, v)
			}
			delete(want, s.Key)
		}
	}
	if len(want) > 0 {
		return fmt.Errorf("does not say how it was built: %d settings are missing", len(want))
	}
	return nil
}

// checkStatic refuses what needs a loader or libraries, which the image lacks.
func checkStatic(b []byte) error {
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return err
	}
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC }) {
		return errors.New("linked dynamically")
	}
	return nil
}

// Our gVisor: its module in the source tree, and all files of it.
var (
	runscModule = filepath.Join("images", "runsc")
	runscFiles  = []string{"go.mod", "go.sum", "main.go"}
)

// Runsc returns the path of our gVisor, built from the module in images/runsc
// of the source tree.
func Runsc(ctx context.Context, source string, c *cache.Cache, r Report) (string, error) {
	module := filepath.Join(source, runscModule)
	parts := [][]byte{[]byte(runtime.Version()), []byte(strings.Join(goFlags, " ")), []byte(strings.Join(goSettings, " "))}
	for _, name := range runscFiles {
		b, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			return "", fmt.Errorf("runsc: %w", err)
		}
		parts = append(parts, b)
	}
	key := cache.Key(labelhash.Sum256("omega/runsc-build/v1", parts...))
	dir, err := c.Dir(ctx, "runsc", key, func(dir string) error {
		step := r.begin("building runsc")
		defer step.Done()
		return goBuild(ctx, module, ".", filepath.Join(dir, "runsc"))
	})
	return filepath.Join(dir, "runsc"), err
}
