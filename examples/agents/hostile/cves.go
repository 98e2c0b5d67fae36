package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// published are escapes from containers that were published: the first step of
// each, without what would follow. It is the step that must be refused.
var published = []attack{
	{"CVE-2014-9357, -6407: opening files of the host by handle (shocker)", openByHandle},
	{"CVE-2016-9962: tracing who enters the container", traceInit},
	{"CVE-2016-0728: keys of others in shared keyrings", sharedKeys},
	{"CVE-2019-5736: overwriting the runtime through /proc/self/exe", overwriteProgram},
	{"CVE-2019-19921, CVE-2023-27561: another folder in the place of /proc", replaceProc},
	{"CVE-2020-14386: raw packets of a network namespace of its own", rawPackets},
	{"CVE-2020-15257: abstract sockets of the runtime", abstractSockets},
	{"CVE-2021-30465, CVE-2018-15664: links exchanged while a path is resolved", exchangeLinks},
	{"CVE-2022-0185, CVE-2023-0386: file systems of a user namespace", userNamespace},
	{"CVE-2022-0492: a release_agent of a cgroup", releaseAgent},
	{"CVE-2022-0811: core_pattern by way of settings", kernelSettings},
	{"CVE-2022-24769: inheritable capabilities", leftCapabilities},
	{"CVE-2024-21626: a descriptor that leads out as working directory", leakedDirectory},
	{"CVE-2025-31133, CVE-2025-52881: links in the place of masked files", replaceMasked},
}

// openByHandle is how "shocker" read files of the host.
func openByHandle() error {
	handle := struct {
		bytes, kind uint32
		handle      [8]byte
	}{8, 1, [8]byte{2}}
	root, err := os.Open("/")
	if err != nil {
		return nil
	}
	defer root.Close()
	const openByHandleAt = 304 // amd64
	if fd, _, errno := syscall.Syscall(openByHandleAt, root.Fd(), uintptr(unsafe.Pointer(&handle)), 0); errno == 0 {
		return fmt.Errorf("descriptor %d", fd)
	}
	return nil
}

// traceInit must not become the tracer of process 1, whose descriptors lead to
// the gateway, nor open them by their names.
func traceInit() error {
	if err := syscall.PtraceAttach(1); err == nil {
		_ = syscall.PtraceDetach(1)
		return errors.New("traces process 1")
	}
	for fd := 3; fd < 64; fd++ { // the first three are this process's, too
		f, err := os.OpenFile(fmt.Sprintf("/proc/1/fd/%d", fd), os.O_RDWR, 0)
		if err == nil {
			target, _ := os.Readlink(f.Name())
			f.Close()
			return fmt.Errorf("opened descriptor %d of process 1, %s", fd, target)
		}
	}
	return nil
}

// sharedKeys looks for keyrings that it did not make.
func sharedKeys() error {
	for _, name := range []string{"/proc/keys", "/proc/key-users"} {
		if text, err := os.ReadFile(name); err == nil && len(text) > 0 {
			return fmt.Errorf("%s lists %d bytes", name, len(text))
		}
	}
	const keyctl, read = 250, 11 // keyctl(2) and KEYCTL_READ, amd64
	buf := make([]byte, 64)
	for ring := -1; ring >= -6; ring-- { // the special keyrings, from the thread's to the group's
		n, _, errno := syscall.Syscall6(keyctl, read, uintptr(ring), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0, 0)
		if errno == 0 && n > 0 {
			return fmt.Errorf("keyring %d holds %d bytes", ring, n)
		}
	}
	return nil
}

// overwriteProgram is writing to the program that started this one, by its
// names and by a descriptor of it that is opened again.
func overwriteProgram() error {
	names := []string{"/proc/self/exe", "/proc/1/exe", "/.omega/shim", "/hostile"}
	const path = 0x200000 // O_PATH (open(2))
	for _, name := range names[:2] {
		if fd, err := syscall.Open(name, path, 0); err == nil {
			defer syscall.Close(fd)
			names = append(names, fmt.Sprintf("/proc/self/fd/%d", fd))
		}
	}
	for _, name := range names {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err == nil {
			f.Close()
			return fmt.Errorf("opened %s for writing", name)
		}
	}
	return nil
}

// replaceProc moves what a runtime trusts out of its place.
func replaceProc() error {
	if err := os.Symlink("/tmp", "/proc-of-mine"); err == nil {
		return errors.New("wrote to the root")
	}
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		if err := os.Rename(dir, "/tmp/moved"); err == nil {
			return fmt.Errorf("moved %s", dir)
		}
		if err := syscall.Mount("/tmp", dir, "", syscall.MS_BIND, ""); err == nil {
			return fmt.Errorf("mounted over %s", dir)
		}
	}
	return nil
}

// exchangeLinks swaps a folder and a link to the root while it opens what the
// platform has and this image has not.
func exchangeLinks() error {
	dir, link := "/tmp/swap", "/tmp/swap-link"
	if err := errors.Join(os.MkdirAll(dir+"/etc", 0o755), os.Symlink("/../../../..", link)); err != nil {
		return nil
	}
	defer os.RemoveAll(dir)
	defer os.RemoveAll(link)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		const aside = "/tmp/swap-aside"
		for {
			select {
			case <-stop:
				return
			default:
			}
			_, _, _ = os.Rename(dir, aside), os.Rename(link, dir), os.Rename(aside, link)
		}
	}()
	defer func() { close(stop); <-done }()
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		for _, name := range []string{"/etc/omega/policy.json", "/run/sandboxd", "/bin/runsc"} {
			if _, err := os.Stat(dir + name); err == nil {
				return fmt.Errorf("%s is there", name)
			}
		}
	}
	return nil
}

// leakedDirectory looks for a descriptor from which a path leads out, as the
// working directory of a new process and by its name.
func leakedDirectory() error {
	names := []string{"/proc/self/cwd", "/proc/1/cwd", "/proc/self/root", "/proc/1/root"}
	for fd := range 64 {
		names = append(names, fmt.Sprintf("/proc/self/fd/%d", fd))
	}
	for _, name := range names {
		for _, file := range []string{"/etc/omega/policy.json", "/run/sandboxd", "/bin/runsc", "/sys/fs/cgroup/agents"} {
			if _, err := os.Stat(name + strings.Repeat("/..", 8) + file); err == nil {
				return fmt.Errorf("%s leads to %s", name, file)
			}
		}
	}
	for fd := range 64 {
		if fd > 2 && syscall.Fchdir(fd) == nil {
			return fmt.Errorf("descriptor %d is a folder", fd)
		}
	}
	return nil
}

// replaceMasked puts a link where a runtime mounts over a file.
func replaceMasked() error {
	for _, name := range []string{"/dev/null", "/dev/console", "/dev/pts", "/proc/kcore", "/proc/timer_list"} {
		if os.Remove(name) == nil || os.Rename(name, "/tmp/masked") == nil || os.Symlink("/proc/sys/kernel/core_pattern", name) == nil {
			return fmt.Errorf("replaced %s", name)
		}
	}
	return nil
}

// leftCapabilities must be none, of any kind.
func leftCapabilities() error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(status)) {
		name, set, _ := strings.Cut(line, ":")
		if strings.HasPrefix(name, "Cap") && strings.Trim(strings.TrimSpace(set), "0") != "" {
			return fmt.Errorf("%s is %s", name, strings.TrimSpace(set))
		}
	}
	return nil
}

// releaseAgent is a cgroup whose end runs a program outside.
func releaseAgent() error {
	dir := "/tmp/cgroup"
	_ = os.Mkdir(dir, 0o755)
	defer os.Remove(dir)
	for _, kind := range []string{"cgroup", "cgroup2"} {
		if err := syscall.Mount("cgroup", dir, kind, 0, "memory"); err == nil {
			return fmt.Errorf("mounted a hierarchy of %s", kind)
		}
	}
	return writable("/sys/fs/cgroup")
}

// writable reports whether a file below a folder takes what is not its owner's.
func writable(dir string) error {
	names, _ := filepath.Glob(dir + "/*/release_agent") // the pattern is well formed
	for _, name := range append(names, dir+"/release_agent", dir+"/cgroup.procs") {
		if f, err := os.OpenFile(name, os.O_WRONLY, 0); err == nil {
			f.Close()
			return fmt.Errorf("opened %s for writing", name)
		}
	}
	return nil
}

// userNamespace starts this program as root of namespaces of its own, where
// Linux would let it reach for most of its file systems.
func userNamespace() error {
	return inNamespaces(syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS)
}

// rawPackets is the same with a network.
func rawPackets() error {
	return inNamespaces(syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET)
}

func inNamespaces(flags uintptr) error {
	cmd := exec.Command("/proc/self/exe", "namespaced")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  flags,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.Output()
	var ended *exec.ExitError
	if errors.As(err, &ended) && len(out) > 0 {
		return errors.New(strings.TrimSpace(string(out)))
	}
	return nil // it worked in vain, or could not be started
}
