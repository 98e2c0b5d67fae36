// Command probe is a guest's PID 1 for tests and benchmarks, never part of an
// image: it says on the console what a kernel made of the machine it was given.
// Its first argument, which the kernel takes from behind "--" on its command
// line, chooses what it does. It proves nothing to anybody outside.
package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// modes are what probe can do. Each ends in the machine being off.
var modes = map[string]func() error{
	"empty":   func() error { return nil },
	"devices": devices,
	"meter":   meter,
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "watch" && os.Getpid() != 1 {
		watch()
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "probe: this is a guest's PID 1; it does nothing elsewhere")
		os.Exit(1)
	}
	mode := "empty"
	if len(os.Args) > 1 {
		mode = os.Args[1]
	}
	// The same words as the platform's own PID 1, so that one reader reads both.
	fmt.Printf("omega: pid1 %d\n", uptime().Milliseconds())
	run, ok := modes[mode]
	if !ok {
		fmt.Printf("probe: no mode %q\n", mode)
	} else if err := run(); err != nil {
		fmt.Printf("probe: %s: %v\n", mode, err)
	}
	fmt.Println("probe: end")
	// TCSBRK with 1 is tcdrain (ioctl_tty(2)): the last line gets out.
	_ = unix.IoctlSetInt(int(os.Stdout.Fd()), unix.TCSBRK, 1)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

// uptime is how long the kernel has run.
func uptime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// mount puts the kernel's own file systems where they usually are.
func mount() error {
	for _, m := range []struct{ kind, at string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, unix.MS_NOSUID|unix.MS_NOEXEC, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", m.kind, err)
		}
	}
	return nil
}
