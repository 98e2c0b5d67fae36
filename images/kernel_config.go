package images

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"omega/internal/cache"
	"omega/internal/labelhash"
)

// kconfigFiles are the parts of the kernel's source that Kconfig needs.
var kconfigFiles = []string{
	"--wildcards", "*/Kconfig*", "*/scripts/*", "*/arch/x86/Makefile*", "linux-source-*/Makefile", "linux-source-*/Kbuild",
}

// finishedConfig is what Kconfig makes of config for a variant, in seconds and
// without a compiler run on the kernel. It is checked like that of a build.
func finishedConfig(ctx context.Context, s *Store, r *kernelRecipe, config []byte) ([]byte, error) {
	src, err := s.kconfigSource(ctx, r)
	if err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp("", "omega-kconfig-")
	if err != nil {
		return nil, fmt.Errorf("kernel config: %w", err)
	}
	defer os.RemoveAll(work)
	b := kernelBuild{src: src, out: filepath.Join(work, "out"), work: work, variant: r.variant}
	if err := os.Mkdir(b.out, 0o755); err != nil {
		return nil, fmt.Errorf("kernel config: %w", err)
	}
	if err := b.configure(ctx, config); err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(b.out, ".config"))
}

// kconfigSource returns a folder with the part of the patched source that
// Kconfig reads.
func (s *Store) kconfigSource(ctx context.Context, r *kernelRecipe) (string, error) {
	entry, err := s.lock.Entry(kernelSource)
	if err != nil {
		return "", err
	}
	parts := [][]byte{entry.SHA256[:]}
	for _, p := range r.Patches {
		parts = append(parts, p.Diff)
	}
	key := cache.Key(labelhash.Sum256("omega/kconfig-source/v1", parts...))
	return s.cache.Dir(ctx, "kconfig", key, func(dir string) error {
		tar, err := s.File(ctx, kernelSource, kernelTar)
		if err != nil {
			return err
		}
		b := kernelBuild{src: dir, work: dir}
		names := slices.Clone(kconfigFiles)
		for _, p := range r.Patches {
			for _, file := range p.Files() {
				// tar asks of every pattern that it finds something new.
				if !strings.HasPrefix(filepath.Base(file), "Kconfig") {
					names = append(names, "*/"+file)
				}
			}
		}
		return b.unpack(ctx, tar, r.Patches, names...)
	})
}
