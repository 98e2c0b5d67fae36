package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTheCommandLineIsAsReviewed(t *testing.T) {
	plain := Machine{
		Firmware: []string{"-L", "/fw"}, Accel: TCG, Memory: 2048, CPUs: 2,
		Kernel: "/vm/kernel", Initrd: "/vm/initrd", Cmdline: "console=ttyS0 quiet",
		ConfigDisk: "/vm/config", LogDisk: "/data/a,b/log", Port: 18443,
		PSPSocket: "/vm/psp", PowerSocket: "/vm/power",
	}
	bare := Machine{Accel: KVM, Memory: 512, CPUs: 1, Kernel: "/vm/kernel", Initrd: "/vm/initrd", PowerSocket: "/vm/power"}
	snp := plain
	snp.Accel, snp.PSPSocket = KVM, ""
	snp.SNP = &SNP{OVMF: "/vm/ovmf.fd", CPU: "EPYC-Milan", Policy: 0x30000, HostData: [32]byte{1, 2, 3}}
	signed, launch := snp, *snp.SNP
	launch.IDBlock, launch.IDAuth, launch.AuthorKey = []byte("the block"), []byte("its signatures"), true
	signed.SNP = &launch
	tests := []struct {
		file    string
		machine Machine
	}{{"plain", plain}, {"bare", bare}, {"snp", snp}, {"snp-signed", signed}}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			want, err := os.ReadFile(filepath.Join("testdata", tt.file+".golden"))
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(tt.machine.Args(), "\n") + "\n"
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("arguments (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNoMachineHasADisplay(t *testing.T) {
	args := strings.Join((&Machine{}).Args(), " ")
	for _, want := range []string{"-nodefaults", "-vga none", "-display none", "-no-reboot", "-no-user-config"} {
		if !strings.Contains(args, want) {
			t.Errorf("no %q", want)
		}
	}
}

// script is a stand-in for QEMU.
func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func start(t *testing.T, body string) *Process {
	t.Helper()
	dir, err := Private()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p, err := Start(context.Background(), script(t, body), Machine{}, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop(context.Background(), 0) })
	return p
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestWaitLineSeesLinesFromBeforeAndAfter(t *testing.T) {
	p := start(t, `printf '\033[2J\033[Homega: pid1 12\r\n'; sleep 0.2; echo 'omega: ready 99'; sleep 60`)
	for _, prefix := range []string{"omega: pid1 ", "omega: ready ", "omega: pid1 "} {
		if _, err := p.WaitLine(within(t, 10*time.Second), prefix); err != nil {
			t.Errorf("%s: %v", prefix, err)
		}
	}
	if diff := cmp.Diff([]string{"omega: pid1 12", "omega: ready 99"}, p.Lines()); diff != "" {
		t.Error(diff)
	}
}

func TestWaitLineEndsWithTheMachineAndSaysHow(t *testing.T) {
	tests := []struct{ name, body, want string }{
		{"it powered off", `echo 'omega: poweroff: launch config malformed'`, "launch config malformed"},
		{"it crashed", `echo 'Kernel panic - not syncing'; exit 3`, "Kernel panic"},
		{"it said nothing", `exit 1`, "nothing was printed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := start(t, tt.body)
			_, err := p.WaitLine(within(t, 10*time.Second), "omega: ready ")
			if !errors.Is(err, ErrEnded) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("it hangs", func(t *testing.T) {
		p := start(t, `echo last words; sleep 60`)
		_, err := p.WaitLine(within(t, 300*time.Millisecond), "omega: ready ")
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "last words") {
			t.Errorf("got %v", err)
		}
	})
}

func TestAConsoleWithoutEndIsBounded(t *testing.T) {
	p := start(t, `head -c 3000000 /dev/zero | tr '\0' x; yes | head -n 20000; echo; echo end`)
	<-p.Done()
	lines := p.Lines()
	if len(lines) != maxLines {
		t.Errorf("%d lines were kept, want %d", len(lines), maxLines)
	}
	for _, l := range lines {
		if len(l) > maxLine {
			t.Fatalf("a line of %d bytes was kept", len(l))
		}
	}
}

func TestStopKillsWhatDoesNotPowerOff(t *testing.T) {
	p := start(t, `trap '' TERM INT; echo up; while :; do sleep 1; done`)
	if _, err := p.WaitLine(within(t, 10*time.Second), "up"); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(context.Background(), 100*time.Millisecond); !errors.Is(err, errKilled) {
		t.Errorf("got %v", err)
	}
	if err := syscall.Kill(p.cmd.Process.Pid, 0); err != syscall.ESRCH {
		t.Errorf("the process is still there: %v", err)
	}
}

func TestErrTellsWhatQEMUSaid(t *testing.T) {
	p := start(t, `echo 'qemu: no such device' >&2; exit 1`)
	<-p.Done()
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "no such device") {
		t.Errorf("got %v", err)
	}
}

func TestAProgramThatIsNotThereIsAnError(t *testing.T) {
	dir, err := Private()
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if _, err := Start(context.Background(), "/no/such/qemu", Machine{}, dir, nil); err == nil {
		t.Error("it started")
	}
}

func TestInDoubtTheAcceleratorIsTCG(t *testing.T) {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		t.Skip("no /dev/kvm: nothing is probed")
	}
	tests := []struct{ name, body, want string }{
		{"KVM runs the kernel", `echo 'Kernel panic - not syncing: VFS'`, KVM},
		{"KVM aborts", `echo assertion >&2; exit 134`, TCG},
		{"the kernel never speaks", `exit 0`, TCG},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, words, err := Accelerator(context.Background(), "auto", script(t, tt.body), nil, "/kernel")
			if err != nil || got != tt.want || words == "" {
				t.Errorf("%s, %q, %v", got, words, err)
			}
		})
	}
	for _, want := range []string{TCG, KVM} {
		if got, _, err := Accelerator(context.Background(), want, "/no/such", nil, ""); err != nil || got != want {
			t.Errorf("asked for %s: %s, %v", want, got, err)
		}
	}
	if _, _, err := Accelerator(context.Background(), "hvf", "", nil, ""); err == nil {
		t.Error("an unknown accelerator was taken")
	}
}

func TestEachMissingRequirementOfSNPHasItsLine(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	ovmf := filepath.Join(t.TempDir(), "ovmf.fd")
	if err := os.WriteFile(ovmf, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	good := func() Host {
		return Host{
			Root: fstest.MapFS{
				"proc/cpuinfo":                          file("processor : 0\nflags\t\t: fpu sev sev_snp\n"),
				"sys/module/kvm_amd/parameters/sev_snp": file("Y\n"),
			},
			Open: func(string) error { return nil }, Version: "QEMU emulator version 10.0.2 (Debian 1:10)", OVMF: ovmf,
		}
	}
	if missing := good().MissingForSNP(); missing != nil {
		t.Fatalf("a good host lacks %q", missing)
	}
	tests := []struct {
		name string
		edit func(*Host)
		want string
	}{
		{"a CPU without SNP", func(h *Host) { h.Root.(fstest.MapFS)["proc/cpuinfo"] = file("flags : fpu sev\n") }, "CPU"},
		{"a module without SNP", func(h *Host) { h.Root.(fstest.MapFS)["sys/module/kvm_amd/parameters/sev_snp"] = file("N\n") }, "kernel"},
		{"no permission", func(h *Host) {
			h.Open = func(p string) error { return fmt.Errorf("open: %w", os.ErrPermission) }
		}, "/dev/sev"},
		{"an old QEMU", func(h *Host) { h.Version = "QEMU emulator version 9.2.4" }, "9.2"},
		{"no QEMU", func(h *Host) { h.Version = "" }, "QEMU"},
		{"no firmware", func(h *Host) { h.OVMF = "/no/such" }, "firmware"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := good()
			tt.edit(&h)
			missing := h.MissingForSNP()
			if len(missing) != 1 || !strings.Contains(missing[0], tt.want) {
				t.Errorf("missing %q", missing)
			}
		})
	}
}

func TestWhatIsTypedReachesTheConsole(t *testing.T) {
	dir, err := Private()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for input, want := range map[string]string{"ls /bin\n": "typed: ls /bin", "": "typed:"} {
		m := Machine{Accel: TCG, Memory: 64, CPUs: 1}
		if input != "" {
			m.Input = strings.NewReader(input)
		}
		p, err := Start(t.Context(), script(t, `read line; echo "typed: $line"`), m, dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		<-p.Done()
		if lines := p.Lines(); len(lines) != 1 || strings.TrimSpace(lines[0]) != want {
			t.Errorf("%q: the console has %q, want %q", input, lines, want)
		}
		if err := os.RemoveAll(filepath.Join(dir, "power")); err != nil {
			t.Fatal(err)
		}
	}
}
