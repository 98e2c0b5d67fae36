package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// securityDir is where the kernel's security modules are told what to do.
const securityDir = "/sys/kernel/security"

// lockModules forbids loading kernel modules and whatever else lets root change
// the running kernel, until the machine is off. A kernel built without modules
// has no such switch and is locked down from its first instruction on.
func (g *guest) lockModules(context.Context) error {
	err := os.WriteFile("/proc/sys/kernel/modules_disabled", []byte("1"), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return lockDown()
}

// lockDown raises lockdown to its highest level; there is no way back
// (kernel_lockdown(7)). The folder is not left mounted: nobody else needs it.
func lockDown() error {
	if err := unix.Mount("securityfs", securityDir, "securityfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("lockdown: %w", err)
	}
	err := os.WriteFile(filepath.Join(securityDir, "lockdown"), []byte("confidentiality"), 0)
	return errors.Join(err, unix.Unmount(securityDir, unix.MNT_DETACH))
}
