package cell

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The ports of the probe's sandbox, and one that is nobody's.
const (
	shimPort, ownPort, otherPort = 3128, 8080, 8081
)

// probe is what runs inside: it tries what a program that was taken over would, and
// prints one line for each.
func probe() {
	for _, p := range probes {
		result := "done"
		if err := p.try(); err != nil {
			result = word(err)
		}
		fmt.Printf("%s: %s\n", p.name, result)
	}
}

// word is the error's number, by its name, or its text.
func word(err error) string {
	var no syscall.Errno
	if errors.As(err, &no) {
		return unix.ErrnoName(no)
	}
	return err.Error()
}

// said turns what was found into the line's end.
func said(format string, args ...any) error { return fmt.Errorf(format, args...) }

func call(nr uintptr, args ...uintptr) func() error {
	args = append(args, 0, 0, 0, 0, 0, 0)
	return func() error {
		if _, _, errno := unix.Syscall6(nr, args[0], args[1], args[2], args[3], args[4], args[5]); errno != 0 {
			return errno
		}
		return nil
	}
}

func socket(family, kind int) func() error {
	return func() error {
		_, err := unix.Socket(family, kind, 0)
		return err
	}
}

func dial(address string) func() error {
	return func() error { _, err := net.Dial("tcp", address); return err }
}

func listen(port int) func() error {
	return func() error { _, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); return err }
}

func names(dir string) []string {
	var out []string
	list, err := os.ReadDir(dir)
	if err != nil {
		return []string{word(err)}
	}
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

// status are lines of its own /proc/self/status.
func status(keys ...string) error {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		if slices.Contains(keys, key) {
			out = append(out, key+" "+strings.Join(strings.Fields(value), " "))
		}
	}
	return said("%s", strings.Join(out, ", "))
}

func processes() error {
	var out []string
	for _, n := range names("/proc") {
		if strings.Trim(n, "0123456789") == "" {
			out = append(out, n)
		}
	}
	return said("%v, I am %d", out, os.Getpid())
}

func interfaces() error {
	b, err := os.ReadFile("/proc/self/net/dev")
	if err != nil {
		return err
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if name, _, ok := strings.Cut(line, ":"); ok {
			out = append(out, strings.TrimSpace(name))
		}
	}
	return said("%v", out)
}

func runFromScratch() error {
	b, err := os.ReadFile("/.omega/shim")
	if err == nil {
		err = os.WriteFile("/tmp/program", b, 0o755)
	}
	if err != nil {
		return said("writing: %w", err)
	}
	return exec.Command("/tmp/program").Run()
}

func ownThings() error {
	model, err := os.ReadFile("/models/small")
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	dir, _ := os.Getwd()
	return errors.Join(said("%s, %s, in %s, environment %q", model, host, dir, os.Environ()[0]), err)
}

// descriptors are what it was started with: 3 the link, 4 the gate, 6 the inbound link.
func descriptors() error {
	var out []string
	for _, n := range names("/proc/self/fd") {
		to, _ := os.Readlink(filepath.Join("/proc/self/fd", n))
		kind, _, _ := strings.Cut(to, ":")
		if !strings.HasPrefix(kind, "/proc/") && kind != "anon_inode" && kind != "" { // the runtime's own
			out = append(out, n+" "+kind)
		}
	}
	return said("%v", out)
}

var path = unsafe.Pointer(&append([]byte("/tmp/x"), 0)[0])

var probes = []struct {
	name string
	try  func() error
}{
	{"its own", ownThings},
	{"user", func() error { return status("Uid", "Gid", "Groups", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp") }},
	{"processes", processes},
	{"descriptors", descriptors},
	{"devices", func() error { return said("%v", names("/dev")) }},
	{"interfaces", interfaces},
	{"write the root", func() error { return os.WriteFile("/x", nil, 0o644) }},
	{"write the model", func() error { return os.WriteFile("/models/small", []byte("other"), 0o644) }},
	{"write beside the model", func() error { return os.WriteFile("/models/x", nil, 0o644) }},
	{"write a device's folder", func() error { return os.WriteFile("/dev/x", nil, 0o644) }},
	{"write scratch", func() error { return os.WriteFile("/tmp/x", nil, 0o644) }},
	{"run from scratch", runFromScratch},
	{"serve on its port", listen(ownPort)},
	{"serve on another", listen(otherPort)},
	{"dial the shim", dial(fmt.Sprint("127.0.0.1:", shimPort))},
	{"dial another port", dial(fmt.Sprint("127.0.0.1:", otherPort))},
	{"dial the world", dial("192.0.2.1:443")},
	{"Unix sockets", socket(unix.AF_UNIX, unix.SOCK_STREAM)},
	{"netlink", socket(unix.AF_NETLINK, unix.SOCK_RAW)},
	{"TCP by another name", func() error { _, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 262); return err }}, // MPTCP
	{"packets", socket(unix.AF_PACKET, unix.SOCK_RAW)},
	{"vsock", socket(unix.AF_VSOCK, unix.SOCK_STREAM)},
	{"mount", call(unix.SYS_MOUNT)},
	{"unshare", call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER)},
	{"clone a user namespace", call(unix.SYS_CLONE, unix.CLONE_NEWUSER)},
	{"clone3", call(unix.SYS_CLONE3)},
	{"setns", call(unix.SYS_SETNS)},
	{"ptrace", call(unix.SYS_PTRACE)},
	{"read another's memory", call(unix.SYS_PROCESS_VM_READV)},
	{"bpf", call(unix.SYS_BPF)},
	{"io_uring", call(unix.SYS_IO_URING_SETUP, 1)},
	{"keys", call(unix.SYS_KEYCTL)},
	{"a device of its own", call(unix.SYS_MKNOD, uintptr(path), unix.S_IFCHR|0o666, 0x0103)},
	{"userfaultfd", call(unix.SYS_USERFAULTFD)},
	{"performance counters", call(unix.SYS_PERF_EVENT_OPEN)},
	{"another root", call(unix.SYS_CHROOT, uintptr(path))},
	{"another user", call(unix.SYS_SETUID, 0)},
	{"type into a terminal", call(unix.SYS_IOCTL, 0, unix.TIOCSTI)},
}
