package qemu

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// probeTime is how long the kernel may take to show that KVM runs it. Where KVM
// works, it needs less than one second.
const probeTime = 6 * time.Second

// probeWord is what a kernel without an initramfs ends with: it ran.
const probeWord = "Kernel panic"

// Accelerator chooses for want "auto", "tcg" or "kvm". For auto it boots kernel
// under KVM, without an initramfs and for a few seconds only: on many nested
// machines /dev/kvm exists and does not work. In doubt it is TCG, and words say
// why.
func Accelerator(ctx context.Context, want, binary string, firmware []string, kernel string) (accel, words string, err error) {
	switch want {
	case TCG, KVM:
		return want, "as asked", nil
	case "auto", "":
	default:
		return "", "", fmt.Errorf("accelerator %q is not auto, tcg or kvm", want)
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return TCG, "no usable /dev/kvm", nil
	}
	f.Close()
	if why := probeKVM(ctx, binary, firmware, kernel); why != "" {
		return TCG, "KVM is present but " + why, ctx.Err()
	}
	return KVM, "KVM works", nil
}

// probeKVM returns why KVM is of no use, or "".
func probeKVM(ctx context.Context, binary string, firmware []string, kernel string) string {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	args := append(append([]string(nil), firmware...),
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-vga", "none",
		"-machine", "q35,accel=kvm", "-cpu", "host", "-m", "256", "-smp", "1",
		"-kernel", kernel, "-append", "console=ttyS0 panic=-1", "-serial", "stdio")
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	switch {
	case strings.Contains(string(out), probeWord):
		return ""
	case ctx.Err() != nil:
		return "does not run the kernel in time"
	case err != nil:
		return "fails: " + err.Error()
	}
	return "does not run the kernel"
}
