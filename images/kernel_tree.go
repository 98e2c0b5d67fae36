package images

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"omega/internal/cache"
)

const (
	// keptVariant is the kernel whose objects stay in the cache: the kernel of
	// the single-file image is linked from them.
	keptVariant = "cpu"
	// treeKey is the file that says which kernel a kept folder holds. It is
	// written last, so a folder without it is not whole.
	treeKey = "key"
)

// inTree compiles the kernel of r and lets use look at it. The folder is removed
// afterwards unless it is that of the kept variant, which is also not compiled
// again while it is there.
func (s *Store) inTree(ctx context.Context, r *kernelRecipe, use func(*kernelBuild) error) (err error) {
	base := filepath.Join(s.cache.Root(), "kernel-tree")
	if err := os.MkdirAll(base, 0o755); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	tree := filepath.Join(base, r.variant)
	unlock, err := cache.Lock(ctx, tree+".lock")
	if err != nil {
		return err
	}
	defer unlock()
	if holds(tree, r.key) {
		b := r.buildIn(tree, s.report.begin("linking the kernel"))
		defer b.step.Done()
		return use(b)
	}
	if err := os.RemoveAll(tree); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	keep := r.variant == keptVariant
	// The kernel's make splits a path at these characters.
	if strings.ContainsAny(tree, " :\t'\"$") {
		keep = false
		if tree, err = os.MkdirTemp("", "omega-kernel-"); err != nil {
			return fmt.Errorf("kernel: %w", err)
		}
	} else if err := os.Mkdir(tree, 0o755); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	defer func() {
		if err != nil || !keep {
			err = errors.Join(err, os.RemoveAll(tree))
		}
	}()
	return s.fillTree(ctx, r, tree, keep, use)
}

func (s *Store) fillTree(ctx context.Context, r *kernelRecipe, tree string, keep bool, use func(*kernelBuild) error) error {
	if err := needSpace(tree, kernelSpace); err != nil {
		return err
	}
	tar, err := s.File(ctx, kernelSource, kernelTar)
	if err != nil {
		return err
	}
	b := r.buildIn(tree, s.report.begin("building the kernel"))
	defer b.step.Done()
	if err := b.run(ctx, tar, r.Source); err != nil {
		return err
	}
	if keep {
		err := errors.Join(b.prune(), os.WriteFile(filepath.Join(tree, treeKey), []byte(r.key.String()), 0o644))
		if err != nil {
			return fmt.Errorf("kernel: %w", err)
		}
	}
	b.fresh = true
	return use(b)
}

func holds(tree string, key cache.Key) bool {
	b, err := os.ReadFile(filepath.Join(tree, treeKey))
	return err == nil && string(b) == key.String()
}

// unneeded are kinds of source files that a finished build looks at only if one
// of its objects was made from them.
var unneeded = regexp.MustCompile(`\.(c|h|S|rs|dts|dtsi|dtso|rst|txt|json|yaml|svg|py|pl|sh)$`)

// prune removes the sources that no object was made from: a kept folder takes
// half a gigabyte then and not two.
func (b *kernelBuild) prune() error {
	used, err := b.sources()
	if err != nil {
		return err
	}
	return filepath.WalkDir(b.src, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(b.src, path)
		if err != nil {
			return err
		}
		switch top, _, _ := strings.Cut(rel, "/"); top {
		case "scripts", "tools", "include", "usr", "certs", "init":
			return nil
		}
		if d.IsDir() || used[rel] || strings.HasPrefix(rel, "arch/x86/") || !unneeded.MatchString(rel) {
			return nil
		}
		return os.Remove(path)
	})
}

// sources are the files below src that the build's own notes name
// (scripts/basic/fixdep.c).
func (b *kernelBuild) sources() (map[string]bool, error) {
	used := map[string]bool{}
	prefix := b.src + "/"
	err := filepath.WalkDir(b.out, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".cmd") {
			return err
		}
		note, err := os.ReadFile(path)
		for _, word := range strings.Fields(string(note)) {
			if rel, ok := strings.CutPrefix(strings.TrimRight(word, ");\\"), prefix); ok {
				used[filepath.Clean(rel)] = true
			}
		}
		return err
	})
	return used, err
}
