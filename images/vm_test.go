package images

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"omega/internal/cache"
	"omega/internal/skip"
)

// bootAlone starts the built kernel without any initramfs, which ends in a
// panic and so in QEMU's exit, and returns what it wrote to the console.
func bootAlone(t *testing.T, args ...string) string {
	t.Helper()
	kernel := At(filepath.Join("..", "build", "cpu")).Kernel
	if _, err := os.Stat(kernel); err != nil {
		skip.Missing(t, "no image is built; `omega build` makes one")
	}
	return bootKernel(t, kernel, args...)
}

// bootKernel starts kernel until its machine is off, and returns what it wrote
// to the console.
func bootKernel(t *testing.T, kernel string, args ...string) string {
	t.Helper()
	if os.Getenv("OMEGA_SKIP_VM") != "" {
		t.Skip("OMEGA_SKIP_VM is set")
	}
	c, err := cache.Open("")
	if err != nil {
		skip.Missing(t, "%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	bin, dirs, err := QEMU(ctx, c, nil)
	if err != nil {
		skip.Missing(t, "%v", err)
	}
	line := append(dirs, "-nodefaults", "-no-user-config", "-machine", "q35,accel=tcg", "-cpu", "max,la57=off", "-m", "256",
		"-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", kernel, "-append", "console=ttyS0 panic=-1")
	out, err := exec.CommandContext(ctx, bin, append(line, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// The host writes the ACPI tables. Its byte code may talk to devices, but what
// the CPU hides from the host must stay hidden from its byte code, too.
func TestByteCodeOfTheHostCannotReachGuestMemory(t *testing.T) {
	for name, firmware := range map[string][]string{"SeaBIOS": nil, "OVMF": {"-bios", "/usr/share/ovmf/OVMF.fd"}} {
		t.Run(name, func(t *testing.T) {
			if firmware != nil {
				if _, err := os.Stat(firmware[1]); err != nil {
					skip.Missing(t, "%v; omega tools --tests installs it", err)
				}
			}
			checkByteCode(t, bootAlone(t, append(firmware, "-acpitable", "file="+filepath.Join("testdata", "memory.aml"))...))
		})
	}
}

// checkByteCode looks through what a kernel said of the table.
func checkByteCode(t *testing.T, console string) {
	t.Helper()
	if !strings.Contains(console, "OMEGA  EVIL") {
		t.Fatalf("the kernel did not see the table:\n%s", console)
	}
	// AE_ACCESS from this handler is our patch's own answer, nobody else's.
	if !strings.Contains(console, "AE_ACCESS, Returned by Handler for [SystemMemory]") {
		t.Error("nothing was refused")
	}
	for _, tt := range []struct {
		name, method string
		refused      bool
	}{
		{"a write to memory", `\_SB.EVIL._STA`, true},
		{"a read of memory", `\_SB.SPY0._STA`, true},
		{"a read of a device", `\_SB.GOOD._STA`, false},
	} {
		if got := strings.Contains(console, "Aborting method "+tt.method+" due to previous error (AE_ACCESS)"); got != tt.refused {
			t.Errorf("%s: refused %v, want %v", tt.name, got, tt.refused)
		}
	}
	if t.Failed() {
		t.Log(console)
	}
}

func TestKernelStopsAtOnceWhenItCannotGoOn(t *testing.T) {
	console := bootAlone(t)
	if !strings.Contains(console, "Kernel panic") {
		t.Errorf("no panic on the console:\n%s", console)
	}
	if strings.Contains(console, "AE_ACCESS") {
		t.Errorf("QEMU's own tables are refused something:\n%s", console)
	}
}
