package mount

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// newRoot is where the tree stands until it is the root.
const newRoot = "/newroot"

// moved are the mounts that follow into the new root.
var moved = []string{"dev", "proc", "sys"}

// Leave makes the unpacked initramfs a mount like any other, and that the root.
// The kernel's own mount of it cannot be pivoted, and a process that is merely
// chrooted may not create user namespaces; runsc needs both. The tree is a tmpfs
// already, so that nothing has to be copied: it is bound to a second place and
// moved over the first, which nothing reaches any more.
func Leave() error {
	if err := os.Mkdir(newRoot, 0o755); err != nil {
		return fmt.Errorf("new root: %w", err)
	}
	if err := unix.Mount("/", newRoot, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("binding the new root: %w", err)
	}
	for _, dir := range moved {
		if err := unix.Mount("/"+dir, newRoot+"/"+dir, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("moving /%s: %w", dir, err)
		}
	}
	if err := enter(newRoot); err != nil {
		return err
	}
	return os.Remove(newRoot)
}

// enter makes dir the root of everything.
func enter(dir string) error {
	if err := unix.Chdir(dir); err != nil {
		return fmt.Errorf("entering the new root: %w", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("moving the new root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("changing root: %w", err)
	}
	return unix.Chdir("/")
}

// Seal makes the root read-only: what was measured stays as it is. What changes
// lies in the mounts below it.
func Seal() error {
	const flags = unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV
	if err := unix.Mount("", "/", "", flags, ""); err != nil {
		return fmt.Errorf("sealing the root: %w", err)
	}
	return nil
}
