package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// asRootOfNamespaces is what the first process of new namespaces tries. That it
// is root there is the sentry's word alone; nothing of the machine may appear.
func asRootOfNamespaces() error {
	for _, kind := range []string{"ext4", "xfs", "vfat", "nfs", "9p", "erofs", "securityfs", "debugfs", "configfs", "bpf"} {
		if err := syscall.Mount("/dev/vda", "/tmp", kind, 0, ""); err == nil {
			return fmt.Errorf("mounted %s", kind)
		}
	}
	// These are the sentry's own, if it has them: with nothing in them but what the sandbox has.
	for _, kind := range []string{"overlay", "cgroup", "proc", "sysfs", "devtmpfs"} {
		_ = syscall.Mount(kind, "/tmp", kind, 0, "lowerdir=/,upperdir=/tmp,workdir=/tmp")
	}
	const fsopen, fsconfig = 430, 431
	if fd, _, errno := syscall.Syscall(fsopen, 0, 0, 0); errno == 0 {
		return fmt.Errorf("fsopen gave descriptor %d", fd)
	}
	if _, _, errno := syscall.Syscall6(fsconfig, 0, 0, 0, 0, 0, 0); errno == 0 {
		return errors.New("fsconfig was done")
	}
	for _, try := range []func() error{
		readPlatform, otherProcesses, makeDevices, kernelSettings, kernelDoors, dialOut,
		func() error { return devicesIn("/tmp") },
		func() error { return writable("/sys/fs/cgroup") },
	} {
		if err := try(); err != nil {
			return err
		}
	}
	if _, err := os.Stat("/etc/omega"); err == nil {
		return errors.New("the platform's files are there")
	}
	return nil
}
