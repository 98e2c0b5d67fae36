package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// kernelSettings tries the files that container escapes begin with.
func kernelSettings() error {
	for _, name := range []string{"/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/kernel/modprobe",
		"/proc/sys/fs/binfmt_misc/register", "/sys/kernel/uevent_helper", "/proc/sys/kernel/hotplug", "/proc/sys/vm/panic_on_oom"} {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			continue
		}
		_, err = f.WriteString("|/hostile")
		f.Close()
		if err == nil {
			return fmt.Errorf("wrote to %s", name)
		}
	}
	return nil
}

// privilegedCalls need capabilities that an agent has not.
func privilegedCalls() error {
	if err := syscall.Mount("none", "/tmp", "tmpfs", 0, ""); err == nil {
		return errors.New("mounted")
	}
	if err := syscall.PivotRoot("/tmp", "/tmp"); err == nil {
		return errors.New("changed the root")
	}
	if err := syscall.Chroot("/tmp"); err == nil {
		return errors.New("chroot")
	}
	if err := syscall.Sethostname([]byte("x")); err == nil {
		return errors.New("renamed the machine")
	}
	if err := syscall.Settimeofday(&syscall.Timeval{Sec: 1}); err == nil {
		return errors.New("set the clock")
	}
	return nil
}

// kernelDoors are calls that reach deep into a kernel. Linux would ask for
// capabilities; gVisor does not have them.
func kernelDoors() error {
	for _, c := range []struct {
		name    string
		number  uintptr
		a, b, c uintptr
	}{
		{"init_module", 175, 0, 0, 0},
		{"finit_module", 313, 0, 0, 0},
		{"kexec_load", 246, 0, 0, 0},
		{"bpf", 321, 0, 0, 0},
		{"io_uring_setup", 425, 8, 0, 0},
		{"perf_event_open", 298, 0, 0, 0},
		{"userfaultfd", 323, 0, 0, 0},
		{"iopl", 172, 3, 0, 0},
		{"reboot", 169, 0xfee1dead, 672274793, 0x1234567},
		{"swapon", 167, 0, 0, 0},
	} {
		if _, _, errno := syscall.RawSyscall(c.number, c.a, c.b, c.c); errno == 0 {
			return fmt.Errorf("%s was done", c.name)
		}
	}
	return nil
}

// makeDevices tries to reach the guest's memory and disks by their numbers.
func makeDevices() error {
	for name, dev := range map[string]int{"mem": 1<<8 | 1, "vda": 254 << 8, "sev-guest": 10<<8 | 123} {
		path := "/tmp/" + name
		if err := syscall.Mknod(path, syscall.S_IFBLK|0o600, dev); err != nil {
			continue
		}
		if f, err := os.Open(path); err == nil {
			f.Close()
			return fmt.Errorf("opened a device %s of its own making", name)
		}
	}
	return nil
}

// killAll signals everything that it can name. The shim is root of nothing
// but this sandbox, and even it must outlive this.
func killAll() error {
	for pid := 2; pid < 400; pid++ {
		if pid != os.Getpid() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	_ = syscall.Kill(1, syscall.SIGSEGV)
	return nil
}
