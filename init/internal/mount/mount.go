// Package mount makes the guest's file system tree: a literal table of what is
// mounted where and how, and the move out of the kernel's own mount of the
// initramfs. It never mounts anything that the host supplies.
package mount

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Mount is one line of the tree. The zero flags are the strict ones.
type Mount struct {
	FS    string // type and source
	Dir   string
	Mode  os.FileMode // of the directory below the mount
	Exec  bool        // programs may be started from it
	Dev   bool        // device nodes work
	Data  string
	After bool // made only once the root has moved
	Maybe bool // the kernel may lack this type
}

// Table is everything that is mounted, in order. The fetcher's folder is a file
// system of its own, so that large images use up no other's room.
var Table = []Mount{
	{FS: "devtmpfs", Dir: "/dev", Mode: 0o755, Dev: true, Data: "mode=0755"},
	{FS: "proc", Dir: "/proc", Mode: 0o555},
	{FS: "sysfs", Dir: "/sys", Mode: 0o555},
	{FS: "tmpfs", Dir: "/run", Mode: 0o755, Data: "mode=0755,size=25%", After: true},
	{FS: "tmpfs", Dir: "/tmp", Mode: 0o1777, Data: "mode=1777,size=10%", After: true},
	// The sentry maps programs out of the images, which noexec would refuse.
	{FS: "tmpfs", Dir: "/run/fetcher", Mode: 0o755, Exec: true, Data: "mode=0755,size=40%", After: true},
	{FS: "cgroup2", Dir: "/sys/fs/cgroup", After: true, Data: "nsdelegate"},
	{FS: "configfs", Dir: "/sys/kernel/config", After: true, Maybe: true},
}

// flags are the mount flags of m. Nothing is set-uid anywhere.
func (m *Mount) flags() uintptr {
	flags := uintptr(unix.MS_NOSUID)
	if !m.Exec {
		flags |= unix.MS_NOEXEC
	}
	if !m.Dev {
		flags |= unix.MS_NODEV
	}
	return flags
}

// All mounts the lines of Table that belong before or after the move.
func All(after bool) error {
	for i := range Table {
		m := &Table[i]
		if m.After != after {
			continue
		}
		if err := m.mount(); err != nil {
			return err
		}
	}
	return nil
}

func (m *Mount) mount() error {
	if m.Mode != 0 { // else the directory is the kernel's own
		if err := os.MkdirAll(m.Dir, m.Mode); err != nil {
			return fmt.Errorf("mount point %s: %w", m.Dir, err)
		}
	}
	err := unix.Mount(m.FS, m.Dir, m.FS, m.flags(), m.Data)
	if m.Maybe && (err == unix.ENODEV || err == unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("mounting %s on %s: %w", m.FS, m.Dir, err)
	}
	return nil
}
