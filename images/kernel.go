package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"omega/internal/cache"
	"omega/internal/labelhash"
	"omega/kernel"
)

const (
	kernelSource = "linux-source-6.12"
	kernelTar    = "usr/src/linux-source-6.12.tar.xz"
	kernelFile   = "bzImage"
	configFile   = "config"
	// kernelSteps is about how many files one build compiles, for its bar.
	kernelSteps = 1319
	// kernelSpace is what the unpacked source and its objects take, and more.
	kernelSpace = 3 << 30
)

// kernelEnv is what would otherwise differ from one machine to the next. The
// time stamp is copied into the banner as it stands, so it is a readable date.
var kernelEnv = []string{
	"KBUILD_BUILD_TIMESTAMP=Tue Nov 14 22:13:20 UTC 2023",
	"KBUILD_BUILD_USER=build",
	"KBUILD_BUILD_HOST=build",
	"KBUILD_BUILD_VERSION=1",
	"SOURCE_DATE_EPOCH=1700000000",
	"LC_ALL=C",
	"TZ=UTC",
}

// buildKernel returns the folder that holds the built kernel and its config.
func buildKernel(ctx context.Context, s *Store, p profile) (string, error) {
	recipe, err := kernel.Load(kernel.Files, p.fragments)
	if err != nil {
		return "", err
	}
	entry, err := s.lock.Entry(kernelSource)
	if err != nil {
		return "", err
	}
	versions, err := toolVersions(ctx)
	if err != nil {
		return "", err
	}
	parts := [][]byte{entry.SHA256[:], recipe.Config, versions, []byte(strings.Join(kernelEnv, "\n"))}
	for _, patch := range recipe.Patches {
		parts = append(parts, []byte(patch.Name), patch.Diff)
	}
	key := cache.Key(labelhash.Sum256("omega/kernel-build/v1", parts...))
	return s.cache.Dir(ctx, "kernel", key, func(dir string) error {
		tar, err := s.File(ctx, kernelSource, kernelTar)
		if err != nil {
			return err
		}
		tree, err := buildTree(dir)
		if err != nil {
			return err
		}
		if err := needSpace(tree, kernelSpace); err != nil {
			return errors.Join(err, os.RemoveAll(tree))
		}
		b := kernelBuild{dir: dir, tree: tree, step: s.report.begin("building the kernel")}
		defer b.step.Done()
		return errors.Join(b.run(ctx, tar, recipe), os.RemoveAll(tree))
	})
}

// buildTree makes the folder to build in: inside dir, where one removal clears
// everything away, unless its path has characters that the kernel's make splits.
func buildTree(dir string) (string, error) {
	if strings.ContainsAny(dir, " :\t'\"$") {
		return os.MkdirTemp("", "omega-kernel-")
	}
	return filepath.Join(dir, "build"), os.Mkdir(filepath.Join(dir, "build"), 0o755)
}

// A kernelBuild is one run of the kernel's own build system: the two results go
// to dir, everything else lies under tree.
type kernelBuild struct {
	dir, tree string
	step      Step
}

func (b *kernelBuild) run(ctx context.Context, tar string, recipe *kernel.Source) error {
	src, out := filepath.Join(b.tree, "src"), filepath.Join(b.tree, "out")
	for _, d := range []string{src, out} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("kernel: %w", err)
		}
	}
	b.step.Set(0, kernelSteps)
	if err := run(ctx, job{args: []string{"tar", "-C", src, "--strip-components=1", "-xJf", tar}}); err != nil {
		return fmt.Errorf("unpacking the kernel: %w", err)
	}
	if err := b.patch(ctx, src, recipe.Patches); err != nil {
		return err
	}
	if err := b.configure(ctx, src, out, recipe.Config); err != nil {
		return err
	}
	if err := b.compile(ctx, src, out); err != nil {
		return err
	}
	for _, f := range []struct{ from, to string }{{"arch/x86/boot/bzImage", kernelFile}, {".config", configFile}} {
		data, err := os.ReadFile(filepath.Join(out, f.from))
		if err != nil {
			return fmt.Errorf("kernel: %w", err)
		}
		if err := os.WriteFile(filepath.Join(b.dir, f.to), data, 0o644); err != nil {
			return fmt.Errorf("kernel: %w", err)
		}
	}
	return nil
}

func (b *kernelBuild) patch(ctx context.Context, src string, patches []kernel.Patch) error {
	for _, p := range patches {
		path := filepath.Join(b.tree, p.Name)
		if err := os.WriteFile(path, p.Diff, 0o644); err != nil {
			return fmt.Errorf("kernel patch %s: %w", p.Name, err)
		}
		// No fuzz: a patch that does not fit exactly is for a person to look at.
		if err := run(ctx, job{args: []string{"patch", "-d", src, "-p1", "-s", "-F0", "-i", path}}); err != nil {
			return fmt.Errorf("kernel patch %s: %w", p.Name, err)
		}
	}
	return nil
}

// configure turns the fragments into a full configuration, and refuses it if
// Kconfig dropped or changed an option.
func (b *kernelBuild) configure(ctx context.Context, src, out string, config []byte) error {
	fragment := filepath.Join(b.tree, "fragment.config")
	if err := os.WriteFile(fragment, config, 0o644); err != nil {
		return fmt.Errorf("kernel config: %w", err)
	}
	if err := b.make(ctx, src, out, nil, "KCONFIG_ALLCONFIG="+fragment, "allnoconfig"); err != nil {
		return fmt.Errorf("kernel config: %w", err)
	}
	finished, err := os.ReadFile(filepath.Join(out, ".config"))
	if err != nil {
		return fmt.Errorf("kernel config: %w", err)
	}
	return kernel.Check(config, finished)
}

func (b *kernelBuild) compile(ctx context.Context, src, out string) error {
	var done int64
	count := func(line string) {
		if strings.HasPrefix(line, "  CC ") || strings.HasPrefix(line, "  AS ") {
			done++
			b.step.Set(min(done, kernelSteps), kernelSteps)
		}
	}
	// Without the prefix maps the paths of the build would be in the kernel.
	flags := fmt.Sprintf("KCFLAGS=-fmacro-prefix-map=%[1]s/= -ffile-prefix-map=%[1]s/= -ffile-prefix-map=%[2]s/=", src, out)
	if err := b.make(ctx, src, out, count, "-j"+strconv.Itoa(runtime.NumCPU()), flags, "bzImage"); err != nil {
		return fmt.Errorf("building the kernel: %w", err)
	}
	return nil
}

// make runs the kernel's make in an environment that holds nothing but what is
// named here, so that no setting of the user's gets into the kernel.
func (b *kernelBuild) make(ctx context.Context, src, out string, line func(string), args ...string) error {
	env := append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.tree}, kernelEnv...)
	return run(ctx, job{env: env, line: line, args: append([]string{"make", "-C", src, "O=" + out}, args...)})
}
