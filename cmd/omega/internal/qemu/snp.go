package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// minMajor and minMinor are the first QEMU that the launch was written for: the
// pinned one's.
const minMajor, minMinor = 10, 0

// Host is what decides whether SNP guests can be launched. The zero fields are
// filled from the machine by ThisHost.
type Host struct {
	Root    fs.FS                   // the host's file system
	Open    func(path string) error // opens a device for reading and writing
	Version string                  // what `QEMU --version` prints
	OVMF    string                  // path of the SNP firmware
}

// ThisHost looks at this machine and at one QEMU.
func ThisHost(ctx context.Context, binary string, firmware []string, ovmf string) Host {
	out, err := exec.CommandContext(ctx, binary, append([]string{"--version"}, firmware...)...).Output()
	if err != nil {
		out = nil // an unknown version is no good version
	}
	return Host{
		Root: os.DirFS("/"), Version: string(out), OVMF: ovmf,
		Open: func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			return f.Close()
		},
	}
}

// MissingForSNP returns one line for each thing that keeps this host from
// launching an SNP guest; none means that it can.
func (h Host) MissingForSNP() []string {
	var missing []string
	for _, check := range []func() error{h.cpu, h.module, h.devices, h.qemu, h.firmware} {
		if err := check(); err != nil {
			missing = append(missing, err.Error())
		}
	}
	return missing
}

func (h Host) cpu() error {
	b, err := fs.ReadFile(h.Root, "proc/cpuinfo")
	if err != nil {
		return fmt.Errorf("CPU: %w", err)
	}
	for line := range bytes.Lines(b) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if string(bytes.TrimSpace(name)) != "flags" {
			continue
		}
		for _, f := range strings.Fields(string(value)) {
			if f == "sev_snp" {
				return nil
			}
		}
		break
	}
	return errors.New("CPU: no sev_snp flag in /proc/cpuinfo (an AMD EPYC from Milan on, with SNP enabled in its BIOS)")
}

func (h Host) module() error {
	b, err := fs.ReadFile(h.Root, "sys/module/kvm_amd/parameters/sev_snp")
	if err == nil && (strings.HasPrefix(string(b), "Y") || strings.HasPrefix(string(b), "1")) {
		return nil
	}
	return errors.New("kernel: /sys/module/kvm_amd/parameters/sev_snp is not Y (Linux 6.11 or later, kvm_amd with sev_snp=1)")
}

func (h Host) devices() error {
	for _, d := range []string{"/dev/sev", "/dev/kvm"} {
		if err := h.Open(d); err != nil {
			return fmt.Errorf("device: %s cannot be opened for reading and writing (%w)", d, errors.Unwrap(err))
		}
	}
	return nil
}

var versionPattern = regexp.MustCompile(`version (\d+)\.(\d+)`)

func (h Host) qemu() error {
	m := versionPattern.FindStringSubmatch(h.Version)
	if m == nil {
		return errors.New("QEMU: it does not tell its version")
	}
	major, _ := strconv.Atoi(m[1]) // digits, by the pattern; too many give a large number
	minor, _ := strconv.Atoi(m[2])
	if major > minMajor || major == minMajor && minor >= minMinor {
		return nil
	}
	return fmt.Errorf("QEMU: version %s.%s is older than %d.%d", m[1], m[2], minMajor, minMinor)
}

func (h Host) firmware() error {
	if h.OVMF == "" {
		return errors.New("firmware: the artifacts have no OVMF for SNP")
	}
	if _, err := os.Stat(h.OVMF); err != nil {
		return fmt.Errorf("firmware: %w", err)
	}
	return nil
}
