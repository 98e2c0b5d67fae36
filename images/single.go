package images

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"omega/internal/cache"
	"omega/internal/labelhash"
	"omega/kernel"
)

// singleVariant is the kernel with the initramfs inside.
const singleVariant = "single"

// singleInitrd is the file that 95-single.config names, in the folder that the
// kernel is built in.
const singleInitrd = "initrd.cpio.zst"

// kernelWith returns the folder that holds the kernel of p, which has the initrd
// inside if p says so.
func kernelWith(ctx context.Context, s *Store, p profile, initrd string) (string, error) {
	if p.kernel == singleVariant {
		return singleKernel(ctx, s, initrd, p.cmdline)
	}
	return buildKernel(ctx, s, p.kernel)
}

// singleKernel returns the folder that holds a kernel with the initramfs at the
// path initrd and with cmdline inside. The objects are those of the kept kernel;
// few are compiled again, and everything is linked again.
func singleKernel(ctx context.Context, s *Store, initrd, cmdline string) (string, error) {
	base, err := s.kernelRecipe(ctx, keptVariant)
	if err != nil {
		return "", err
	}
	r, err := s.kernelRecipe(ctx, singleVariant)
	if err != nil {
		return "", err
	}
	payload, err := os.ReadFile(initrd)
	if err != nil {
		return "", fmt.Errorf("initramfs: %w", err)
	}
	sum := sha256.Sum256(payload)
	config, err := withCmdline(r.Source, cmdline)
	if err != nil {
		return "", err
	}
	key := cache.Key(labelhash.Sum256("omega/kernel-single/v1", base.key[:], r.key[:], sum[:], []byte(cmdline)))
	return s.cache.Dir(ctx, "kernel-single", key, func(dir string) error {
		return s.inTree(ctx, base, func(b *kernelBuild) error {
			if err := os.WriteFile(filepath.Join(b.out, singleInitrd), payload, 0o644); err != nil {
				return fmt.Errorf("kernel: %w", err)
			}
			b.fresh, b.variant = false, r.variant
			if err := b.ensure(ctx, config); err != nil {
				return err
			}
			return b.results(dir)
		})
	})
}

// withCmdline adds the command line to a configuration.
func withCmdline(s *kernel.Source, cmdline string) ([]byte, error) {
	for _, c := range []byte(cmdline) {
		// Kconfig has rules of its own for quotes and backslashes.
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			return nil, fmt.Errorf("kernel config: command line has the byte %#x", c)
		}
	}
	return fmt.Appendf(slices.Clip(s.Config), "CONFIG_CMDLINE=%q\n", cmdline), nil
}
