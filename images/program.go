package images

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"omega/internal/cache"
	"omega/internal/labelhash"
)

// goFlags make a Go program depend on its sources and the compiler alone. With -R
// there is a gap between what a program reads and what it writes: without one
// gVisor takes both for one mapping and copies up to 2 MiB at the first write, in
// every sandbox (pkg/sentry/mm/pma.go), and the shim runs in each.
var goFlags = []string{"-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid= -R 0x10000"}

// goSettings replace whatever the user's environment says.
var goSettings = []string{
	"CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1",
	"GOFLAGS=", "GOEXPERIMENT=", "GODEBUG=", "GOFIPS140=off", "GOWORK=off", "GOTOOLCHAIN=local",
}

// goBuild compiles the program pkg of the module in dir to out, and refuses a
// result that may not go into the image. Programs of ours have no tags.
func goBuild(ctx context.Context, dir, pkg, out, tags string) error {
	args := slices.Concat([]string{"go", "build"}, goFlags, []string{"-tags=" + tags, "-o", out, pkg})
	env := append(os.Environ(), goSettings...) // the last one of a name counts
	if err := run(ctx, job{dir: dir, env: env, args: args}); err != nil {
		return fmt.Errorf("building %s: %w", pkg, err)
	}
	return checkProgram(out, dir, tags)
}

// CheckProgram refuses a program that is not what an image may carry: linked
// dynamically, weakened by GODEBUG defaults, not built by this Go, or naming
// the folder dir that it was built in.
func CheckProgram(path, dir string) error { return checkProgram(path, dir, "") }

func checkProgram(path, dir, tags string) error {
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
	settings := slices.DeleteFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "-tags" && s.Value == tags })
	if err := checkSettings(settings); err != nil {
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

// programSettings are what the linker notes about every program of an image,
// no more and no less.
var programSettings = map[string]string{
	"-buildmode": "exe", "-compiler": "gc", "-trimpath": "true", "CGO_ENABLED": "0", "GOAMD64": "v1", "GOARCH": "amd64", "GOOS": "linux",
}

// checkSettings reads what the Go linker wrote about the build.
func checkSettings(list []debug.BuildSetting) error {
	missing := maps.Clone(programSettings)
	for _, s := range list {
		want, ok := programSettings[s.Key]
		switch {
		// An old go line in go.mod turns on TLS 1.0 and 1024-bit RSA this way.
		case s.Key == "DefaultGODEBUG":
			return fmt.Errorf("weakened by DefaultGODEBUG=%s", s.Value)
		case strings.HasPrefix(s.Key, "vcs"):
			return fmt.Errorf("carries %s, which depends on the checkout", s.Key)
		case !ok:
			return fmt.Errorf("built with %s=%s, which no program of an image is", s.Key, s.Value)
		case s.Value != want:
			return fmt.Errorf("built with %s=%s, want %s", s.Key, s.Value, want)
		}
		delete(missing, s.Key)
	}
	if len(missing) > 0 {
		return fmt.Errorf("does not say how it was built: %d settings are missing", len(missing))
	}
	return nil
}

// checkStatic refuses what needs a loader or libraries, which the image lacks,
// and what was linked with other flags: those that the linker does not note
// show in the sections for symbols and build identities.
func checkStatic(b []byte) error {
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return err
	}
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC }) {
		return errors.New("linked dynamically")
	}
	for _, name := range []string{".symtab", ".debug_info", ".note.go.buildid", ".note.gnu.build-id"} {
		if f.Section(name) != nil {
			return fmt.Errorf("linked with other flags: it has a section %s", name)
		}
	}
	return nil
}

// Our gVisor and the tools of the debug profile: their modules in the source
// tree, and all files of those.
var (
	runscModule = filepath.Join("images", "runsc")
	runscFiles  = []string{"go.mod", "go.sum", "main.go"}
	debugModule = filepath.Join("images", "debug")
	debugFiles  = []string{"go.mod", "go.sum"}
)

// Runsc returns the path of our gVisor, built from the module in images/runsc
// of the source tree.
func Runsc(ctx context.Context, source string, c *cache.Cache, r Report) (string, error) {
	m := module{dir: filepath.Join(source, runscModule), files: runscFiles, kind: "runsc"}
	return m.build(ctx, ".", "runsc", c, r)
}

// debugTool returns the path of a command of u-root, built from the module in
// images/debug of the source tree. The shell has no line editor of its own: the
// terminal's is enough.
func debugTool(ctx context.Context, source, name string, c *cache.Cache, r Report) (string, error) {
	m := module{dir: filepath.Join(source, debugModule), files: debugFiles, tags: "goshsmall", kind: "debug-tools"}
	return m.build(ctx, "github.com/u-root/u-root/cmds/core/"+name, name, c, r)
}

// A module is a small one beside the main one, whose programs are built once for
// each state of its files.
type module struct {
	dir   string
	files []string // all that it consists of
	tags  string   // of the build
	kind  string   // of the programs, in the cache
}

func (m *module) build(ctx context.Context, pkg, name string, c *cache.Cache, r Report) (string, error) {
	parts := [][]byte{[]byte(runtime.Version()), []byte(strings.Join(goFlags, " ")), []byte(strings.Join(goSettings, " "))}
	if m.tags != "" {
		parts = append(parts, []byte("tags "+m.tags))
	}
	for _, file := range m.files {
		b, err := os.ReadFile(filepath.Join(m.dir, file))
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		parts = append(parts, b)
	}
	key := cache.Key(labelhash.Sum256("omega/"+name+"-build/v1", parts...))
	dir, err := c.Dir(ctx, m.kind, key, func(dir string) error {
		step := r.begin("building " + name)
		defer step.Done()
		return goBuild(ctx, m.dir, pkg, filepath.Join(dir, name), m.tags)
	})
	return filepath.Join(dir, name), err
}
