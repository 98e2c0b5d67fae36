package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// devNodes are the machine's own devices that programs expect, in `omega dev`.
var devNodes = []string{"null", "zero", "full", "random", "urandom"}

// Dev makes the working directory the root of this process's mount namespace, in
// which it must be alone, with what Table has but for the devices of a machine.
// It is for `omega dev`. There are no cgroups: a machine that people work at has
// its own, and what is in them is its own business.
func Dev() error {
	root, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("new root: %w", err)
	}
	// Nothing made here may be seen outside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount(root, root, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("binding the new root: %w", err)
	}
	if err := devDevices(root); err != nil {
		return err
	}
	for i := range Table {
		m := Table[i]
		if m.FS == "devtmpfs" || m.FS == "cgroup2" || m.FS == "configfs" || m.After {
			continue
		}
		m.Dir = filepath.Join(root, m.Dir)
		if err := m.mount(); err != nil {
			return err
		}
	}
	if err := pivot(root); err != nil {
		return err
	}
	for i := range Table {
		if m := &Table[i]; m.After && m.FS == "tmpfs" {
			if err := m.mount(); err != nil {
				return err
			}
		}
	}
	return Seal()
}

// devDevices puts a few nodes of the machine's below root.
func devDevices(root string) error {
	dev := filepath.Join(root, "dev")
	if err := unix.Mount("tmpfs", dev, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=0755,size=64k"); err != nil {
		return fmt.Errorf("devices: %w", err)
	}
	loops, err := filepath.Glob("/dev/loop*") // engines' images are mounted over them; some machines have none
	if err != nil {
		return err
	}
	names := append([]string{}, devNodes...)
	for _, l := range loops {
		names = append(names, filepath.Base(l))
	}
	for _, name := range names {
		node := filepath.Join(dev, name)
		if err := os.WriteFile(node, nil, 0o666); err != nil {
			return fmt.Errorf("devices: %w", err)
		}
		if err := unix.Mount(filepath.Join("/dev", name), node, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("device %s: %w", name, err)
		}
	}
	return nil
}

// pivot makes root the root and lets go of the old one (pivot_root(2), with both
// at one place).
func pivot(root string) error {
	if err := unix.Chdir(root); err != nil {
		return fmt.Errorf("entering the new root: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("changing root: %w", err)
	}
	return errors.Join(unix.Unmount(".", unix.MNT_DETACH), unix.Chdir("/"))
}
