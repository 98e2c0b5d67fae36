// Package jail gives up, for good, what a child process does not need: core
// dumps, capabilities, its user id, new privileges, and system calls. The child
// calls Enter on itself before it touches anything foreign. The package decides
// nothing about who needs what; that table is init's.
package jail

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"omega/init/internal/seccomp"
)

// Jail is what one child keeps.
type Jail struct {
	UID    int               // user and group id; 0 stays root
	Caps   []uintptr         // capabilities kept, effective only with UID 0
	Filter []unix.SockFilter // installed last
}

// maxFiles bounds the open descriptors of a child.
const maxFiles = 4096

// lastCap is above CAP_LAST_CAP of any kernel; dropping stops at EINVAL.
const lastCap = 63

// Enter takes effect on every thread. A process that is not root keeps its user
// (that is `omega dev`; in the guest every child starts as root). On error the
// caller must end the process.
func (j *Jail) Enter() error {
	limits := []struct {
		what  int
		value uint64
	}{{unix.RLIMIT_CORE, 0}, {unix.RLIMIT_NOFILE, maxFiles}}
	for _, l := range limits {
		if err := syscall.Setrlimit(l.what, &syscall.Rlimit{Cur: l.value, Max: l.value}); err != nil {
			return fmt.Errorf("limit %d: %w", l.what, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbidding dumps: %w", err)
	}
	if syscall.Geteuid() == 0 {
		if err := j.dropPrivileges(); err != nil {
			return err
		}
	}
	return seccomp.Install(j.Filter)
}

// dropPrivileges must run as root: without CAP_SETPCAP the bounding set stays.
func (j *Jail) dropPrivileges() error {
	keep := [2]uint32{}
	for _, c := range j.Caps {
		keep[c/32] |= 1 << (c % 32)
	}
	for c := range uintptr(lastCap) {
		if keep[c/32]&(1<<(c%32)) != 0 {
			continue
		}
		_, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0)
		if errno == unix.EINVAL {
			break // no such capability, and none above it
		}
		if errno != 0 {
			return fmt.Errorf("dropping capability %d: %w", c, errno)
		}
	}
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("dropping groups: %w", err)
	}
	if err := syscall.Setresgid(j.UID, j.UID, j.UID); err != nil {
		return fmt.Errorf("setting group: %w", err)
	}
	if err := syscall.Setresuid(j.UID, j.UID, j.UID); err != nil {
		return fmt.Errorf("setting user: %w", err)
	}
	if j.UID != 0 {
		keep = [2]uint32{}
	}
	return setCaps(keep)
}
