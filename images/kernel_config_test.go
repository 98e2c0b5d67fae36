package images

import (
	"context"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"omega/internal/cache"
	"omega/internal/labelhash"
)

// kconfigFiles are the parts of the kernel's source that Kconfig needs.
var kconfigFiles = []string{
	"--wildcards", "*/Kconfig*", "*/scripts/*", "*/arch/x86/Makefile*", "linux-source-*/Makefile", "linux-source-*/Kbuild",
}

// changed is the line of a diff that names a file.
var changed = regexp.MustCompile(`(?m)^\+\+\+ b/(.+)$`)

// finishedConfig is what Kconfig makes of config for a variant, in seconds and
// without a compiler run on the kernel. It is checked like that of a build. The
// folder out may be used again.
func finishedConfig(ctx context.Context, s *Store, r *kernelRecipe, config []byte, out string) error {
	src, err := s.kconfigSource(ctx, r)
	if err != nil {
		return err
	}
	b := kernelBuild{src: src, out: out, work: out, variant: r.variant}
	return b.configure(ctx, config)
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
			for _, m := range changed.FindAllSubmatch(p.Diff, -1) {
				file := string(m[1])
				// tar asks of every pattern that it finds something new.
				if !strings.HasPrefix(filepath.Base(file), "Kconfig") {
					names = append(names, "*/"+file)
				}
			}
		}
		return b.unpack(ctx, tar, r.Patches, names...)
	})
}
