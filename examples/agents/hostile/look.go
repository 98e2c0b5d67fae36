package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// readPlatform looks for what belongs to the guest, not to this image.
func readPlatform() error {
	for _, name := range []string{"/etc/omega", "/etc/omega/policy.json", "/run/fetcher", "/run/sandboxd",
		"/bin/runsc", "/init", "/dev/sev-guest", "/sys/kernel/config/tsm", "/sys/kernel/security", "/proc/kcore",
		"/proc/1/root/etc/omega", "/proc/self/root/run/sandboxd", "/sys/fs/cgroup/agents",
		"/run/log", "/dev/vda", "/dev/vdb", "/dev/ttyS0", "/dev/vport0p1"} {
		if _, err := os.Stat(name); err == nil {
			return fmt.Errorf("%s is there", name)
		}
	}
	return nil
}

// otherProcesses must see none but the shim and this one.
func otherProcesses() error {
	own := map[string]bool{"/.omega/shim": true, "/hostile": true, "/proc/self/exe": true} // the last: children of this one
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil || len(line) == 0 || strings.Trim(e.Name(), "0123456789") != "" {
			continue
		}
		if program, _, _ := bytes.Cut(line, []byte{0}); !own[string(program)] {
			return fmt.Errorf("process %s is %.80q", e.Name(), program)
		}
	}
	return nil
}

// memoryOfInit must not be able to read the shim, which holds the link.
func memoryOfInit() error {
	maps, err := os.ReadFile("/proc/1/maps")
	if err != nil {
		return nil
	}
	first, _, _ := strings.Cut(string(maps), "-")
	var at int64
	if _, err := fmt.Sscanf(first, "%x", &at); err != nil {
		return nil
	}
	f, err := os.OpenFile("/proc/1/mem", os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	if n, err := f.ReadAt(make([]byte, 16), at); err == nil {
		return fmt.Errorf("read %d bytes at %#x", n, at)
	}
	return nil
}

// strayDescriptors looks for anything that was left open for it.
func strayDescriptors() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		switch {
		case err != nil, e.Name() == "0", e.Name() == "1", e.Name() == "2":
		case strings.Contains(target, "eventpoll"), strings.Contains(target, "eventfd"), strings.Contains(target, "/proc/"):
			// the Go runtime's, and the folder that is being read
		default:
			return fmt.Errorf("descriptor %s is %q", e.Name(), target)
		}
	}
	return nil
}

// devices must be the harmless few, whatever they are called.
func devices() error { return devicesIn("/dev") }

func devicesIn(dir string) error {
	type number struct{ major, minor uint64 } // Linux, admin-guide/devices.txt
	harmless := map[number]bool{
		{1, 3}: true, {1, 5}: true, {1, 7}: true, {1, 8}: true, {1, 9}: true, // null, zero, full, random, urandom
		{5, 0}: true, {5, 2}: true, // tty, ptmx
		{10, 200}: true, {10, 229}: true, // tun and fuse: the sentry's own, of this sandbox
	}
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		info, err := os.Lstat(path) // links lead to what is here too, or to descriptors
		if err != nil || info.Mode()&fs.ModeDevice == 0 {
			return nil
		}
		if s, ok := info.Sys().(*syscall.Stat_t); ok {
			n := number{s.Rdev >> 8 & 0xfff, s.Rdev & 0xff}
			if harmless[n] || n.major == 136 { // a terminal of its own
				return nil
			}
		}
		return fmt.Errorf("%s is there", path)
	})
}

// environment must hold nothing of the platform's or of other agents'.
func environment() error {
	for _, v := range os.Environ() {
		name, value, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "OMEGA_LINK") || strings.Contains(value, "PRIVATE KEY") {
			return fmt.Errorf("%s is set", name)
		}
	}
	other, err := os.ReadFile("/proc/1/environ")
	if err == nil && bytes.Contains(other, []byte("PRIVATE KEY")) {
		return errors.New("the shim's environment holds a key")
	}
	return nil
}
