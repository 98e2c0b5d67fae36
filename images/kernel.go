package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
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

// kernelUnused are tools whose versions Kconfig would write down, if it found
// them, although nothing uses them.
var kernelUnused = []string{"RUSTC=none", "PAHOLE=none"}

// A kernelRecipe is everything that a kernel is made of.
type kernelRecipe struct {
	*kernel.Source
	variant string
	key     cache.Key
}

func (s *Store) kernelRecipe(ctx context.Context, variant string) (*kernelRecipe, error) {
	v, err := kernel.Named(variant)
	if err != nil {
		return nil, err
	}
	source, err := kernel.Load(kernel.Files, v.Fragments)
	if err != nil {
		return nil, err
	}
	entry, err := s.lock.Entry(kernelSource)
	if err != nil {
		return nil, err
	}
	versions, err := toolVersions(ctx)
	if err != nil {
		return nil, err
	}
	parts := [][]byte{entry.SHA256[:], []byte(strings.Join(source.Options, "\n")), versions, []byte(strings.Join(kernelEnv, "\n"))}
	for _, patch := range source.Patches {
		parts = append(parts, []byte(patch.Name), patch.Diff)
	}
	return &kernelRecipe{source, variant, cache.Key(labelhash.Sum256("omega/kernel-build/v1", parts...))}, nil
}

// buildKernel returns the folder that holds the built kernel and its config.
func buildKernel(ctx context.Context, s *Store, variant string) (string, error) {
	r, err := s.kernelRecipe(ctx, variant)
	if err != nil {
		return "", err
	}
	return s.cache.Dir(ctx, "kernel", r.key, func(dir string) error {
		return s.inTree(ctx, r, func(b *kernelBuild) error {
			if err := b.ensure(ctx, r.Config); err != nil {
				return err
			}
			return b.results(dir)
		})
	})
}

// A kernelBuild is one run of the kernel's own build system.
type kernelBuild struct {
	src, out string
	work     string // for files of ours
	variant  string
	fresh    bool // what lies there is what was asked for
	step     Step
}

// buildIn is a build in the folder tree.
func (r *kernelRecipe) buildIn(tree string, step Step) *kernelBuild {
	return &kernelBuild{
		src: filepath.Join(tree, "src"), out: filepath.Join(tree, "out"), work: tree, variant: r.variant, step: step,
	}
}

func (b *kernelBuild) run(ctx context.Context, tar string, recipe *kernel.Source) error {
	for _, d := range []string{b.src, b.out} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("kernel: %w", err)
		}
	}
	b.step.Set(0, kernelSteps)
	if err := b.unpack(ctx, tar, recipe.Patches); err != nil {
		return err
	}
	if err := b.configure(ctx, recipe.Config); err != nil {
		return err
	}
	return b.compile(ctx)
}

// ensure builds config again where the folder may hold another one's kernel.
func (b *kernelBuild) ensure(ctx context.Context, config []byte) error {
	if b.fresh {
		return nil
	}
	if err := b.configure(ctx, config); err != nil {
		return err
	}
	return b.compile(ctx)
}

// results copies what was built to dir. A kernel that has grown beyond its bound
// is refused wherever it is built: not every one is built by every test run.
func (b *kernelBuild) results(dir string) error {
	v, err := kernel.Named(b.variant)
	if err != nil {
		return err
	}
	for _, f := range []struct{ from, to string }{{"arch/x86/boot/bzImage", kernelFile}, {".config", configFile}} {
		data, err := os.ReadFile(filepath.Join(b.out, f.from))
		if err != nil {
			return fmt.Errorf("kernel: %w", err)
		}
		if int64(len(data)) > v.MaxSize {
			return fmt.Errorf("kernel %s: %s has %d bytes, more than %d", v.Name, f.to, len(data), v.MaxSize)
		}
		if err := os.WriteFile(filepath.Join(dir, f.to), data, 0o644); err != nil {
			return fmt.Errorf("kernel: %w", err)
		}
	}
	return nil
}

// unpack writes the patched source, or those files of it that patterns name.
func (b *kernelBuild) unpack(ctx context.Context, tar string, patches []kernel.Patch, patterns ...string) error {
	args := append([]string{"tar", "-C", b.src, "--strip-components=1", "-xJf", tar}, patterns...)
	if err := run(ctx, job{args: args}); err != nil {
		return fmt.Errorf("unpacking the kernel: %w", err)
	}
	return b.patch(ctx, patches)
}

func (b *kernelBuild) patch(ctx context.Context, patches []kernel.Patch) error {
	for _, p := range patches {
		path := filepath.Join(b.work, p.Name)
		if err := os.WriteFile(path, p.Diff, 0o644); err != nil {
			return fmt.Errorf("kernel patch %s: %w", p.Name, err)
		}
		// No fuzz: a patch that does not fit exactly is for a person to look at.
		if err := run(ctx, job{args: []string{"patch", "-d", b.src, "-p1", "-s", "-F0", "-i", path}}); err != nil {
			return fmt.Errorf("kernel patch %s: %w", p.Name, err)
		}
	}
	return nil
}

// configure turns the fragments into a full configuration, and refuses it if
// Kconfig dropped or changed an option.
func (b *kernelBuild) configure(ctx context.Context, config []byte) error {
	fragment := filepath.Join(b.work, "fragment.config")
	if err := os.WriteFile(fragment, config, 0o644); err != nil {
		return fmt.Errorf("kernel config: %w", err)
	}
	if err := b.make(ctx, nil, "KCONFIG_ALLCONFIG="+fragment, "allnoconfig"); err != nil {
		return fmt.Errorf("kernel config: %w", err)
	}
	finished, err := os.ReadFile(filepath.Join(b.out, ".config"))
	if err != nil {
		return fmt.Errorf("kernel config: %w", err)
	}
	return errors.Join(kernel.Check(config, finished), kernel.Keep(b.variant, finished))
}

func (b *kernelBuild) compile(ctx context.Context) error {
	var done int64
	count := func(line string) {
		if strings.HasPrefix(line, "  CC ") || strings.HasPrefix(line, "  AS ") {
			done++
			b.step.Set(min(done, kernelSteps), kernelSteps)
		}
	}
	// Without the prefix maps the paths of the build would be in the kernel.
	flags := fmt.Sprintf("KCFLAGS=-fmacro-prefix-map=%[1]s/= -ffile-prefix-map=%[1]s/= -ffile-prefix-map=%[2]s/=", b.src, b.out)
	if err := b.make(ctx, count, "-j"+strconv.Itoa(runtime.NumCPU()), flags, "bzImage"); err != nil {
		return fmt.Errorf("building the kernel: %w", err)
	}
	return nil
}

// make runs the kernel's make in an environment that holds nothing but what is
// named here, so that no setting of the user's gets into the kernel.
func (b *kernelBuild) make(ctx context.Context, line func(string), args ...string) error {
	env := append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.work}, kernelEnv...)
	return run(ctx, job{env: env, line: line, args: slices.Concat([]string{"make", "-C", b.src, "O=" + b.out}, kernelUnused, args)})
}
