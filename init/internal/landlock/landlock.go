// Package landlock takes from the calling thread, for good, the files and ports
// that it does not name (Linux, userspace-api/landlock.rst). What the thread
// executes keeps that. It gives nothing: who may do what else is decided elsewhere.
package landlock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rules are what stays. Each place stands for all below it.
type Rules struct {
	Read  []string // files to read and programs to run
	Write []string // folders and devices to write as well
	Ports []int    // TCP ports to serve on and to dial
}

// minABI has ports (version 4), and maxABI is the last that this package knows.
const (
	minABI = 4
	maxABI = 6
)

const (
	reads  = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	writes = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SYM |
		unix.LANDLOCK_ACCESS_FS_REFER | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	// never is what no rule gives: devices, sockets and pipes that have a name.
	never = unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK
	// ofFile are the rights that a place can have which is no folder.
	ofFile = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	ports = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
)

// rule types of landlock_add_rule(2).
const (
	rulePath = 1
	rulePort = 2
)

// ErrAbsent reports a kernel without Landlock, or with one that is too old.
var ErrAbsent = errors.New("the kernel's Landlock is missing or too old")

// Restrict applies to the calling thread, which must be locked and have set
// no_new_privs or be privileged.
func (r Rules) Restrict() error {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 || abi < minABI {
		return fmt.Errorf("%w: version %d", ErrAbsent, abi)
	}
	attr := unix.LandlockRulesetAttr{Access_fs: reads | writes | never, Access_net: ports}
	size := unsafe.Offsetof(attr.Access_net) + unsafe.Sizeof(attr.Access_net)
	if abi >= 5 {
		attr.Access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if abi >= maxABI {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
		size = unsafe.Sizeof(attr)
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return fmt.Errorf("landlock: %w", errno)
	}
	defer unix.Close(int(fd))
	if err := r.add(int(fd), attr.Access_fs); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return fmt.Errorf("landlock: %w", errno)
	}
	return nil
}

// add puts all rules into the set.
func (r Rules) add(set int, handled uint64) error {
	for _, p := range r.Read {
		if err := addPath(set, p, reads&handled); err != nil {
			return err
		}
	}
	for _, p := range r.Write {
		if err := addPath(set, p, (reads&^unix.LANDLOCK_ACCESS_FS_EXECUTE|writes|unix.LANDLOCK_ACCESS_FS_IOCTL_DEV)&handled); err != nil {
			return err
		}
	}
	for _, p := range r.Ports {
		b := make([]byte, 16) // struct landlock_net_port_attr
		binary.NativeEndian.PutUint64(b, ports)
		binary.NativeEndian.PutUint64(b[8:], uint64(p))
		if err := addRule(set, rulePort, b); err != nil {
			return fmt.Errorf("landlock: port %d: %w", p, err)
		}
	}
	return nil
}

func addPath(set int, path string, access uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("landlock: %s: %w", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("landlock: %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= ofFile
	}
	b := make([]byte, 12) // struct landlock_path_beneath_attr, which is packed
	binary.NativeEndian.PutUint64(b, access)
	binary.NativeEndian.PutUint32(b[8:], uint32(fd))
	if err := addRule(set, rulePath, b); err != nil {
		return fmt.Errorf("landlock: %s: %w", path, err)
	}
	return nil
}

func addRule(set, kind int, attr []byte) error {
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(set), uintptr(kind), uintptr(unsafe.Pointer(&attr[0])), 0, 0, 0)
	runtime.KeepAlive(attr)
	if errno != 0 {
		return errno
	}
	return nil
}
