package main

import (
	"bytes"
	"crypto"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"omega/attest/measure"
	"omega/internal/skip"
)

// bootForms are the ways in which firmware gets the image: as a program that
// QEMU hands to it, and from each disk that `omega convert` writes.
var bootForms = []struct {
	to   string
	boot measure.Boot
	file func(t *testing.T, dir string, program []byte) string // makes of the conversion what QEMU boots
}{
	{"uki", measure.DirectBoot, func(_ *testing.T, dir string, _ []byte) string { return filepath.Join(dir, ukiName) }},
	{"raw", measure.DiskBoot, func(t *testing.T, dir string, program []byte) string {
		checkRawDisk(t, filepath.Join(dir, "omega.raw"), program)
		return filepath.Join(dir, "omega.raw")
	}},
	{"gcp", measure.DiskBoot, func(t *testing.T, dir string, _ []byte) string {
		hostTool(t, "tar", "-C", dir, "-xzf", filepath.Join(dir, "omega-gcp.tar.gz"))
		return filepath.Join(dir, "disk.raw")
	}},
	{"azure", measure.DiskBoot, func(t *testing.T, dir string, _ []byte) string {
		back := filepath.Join(dir, "back.raw")
		hostTool(t, "qemu-img", "convert", "-f", "vpc", "-O", "raw", filepath.Join(dir, "omega-azure.vhd"), back)
		return back
	}},
}

// TestConversionsBootBackAndATPMHoldsThePredictedPCRs boots the image in each
// form through OVMF with an emulated TPM, and compares the prediction with what the
// TPM was told, which it writes down itself, and with the firmware's event log,
// which is read from the guest's memory: its kernel has no driver for a TPM.
func TestConversionsBootBackAndATPMHoldsThePredictedPCRs(t *testing.T) {
	dir := image(t)
	needFirmware(t)
	program := programOf(t, dir)
	for _, form := range bootForms {
		t.Run(form.to, func(t *testing.T) {
			t.Parallel()
			medium := asVirtioDisk
			if form.boot == measure.DirectBoot {
				medium = asKernel
			}
			checkPCRs(t, program, form.boot, medium(form.file(t, converted(t, dir, form.to), program)))
		})
	}
	t.Run("aws takes the raw disk as it is", func(t *testing.T) {
		t.Parallel()
		hostTool(t, "cmp", filepath.Join(converted(t, dir, "raw"), "omega.raw"), filepath.Join(converted(t, dir, "aws"), "omega-aws.raw"))
	})
}

// TestCloudImageBootsFromNVMe boots the image with the clouds' drivers from the
// kind of disk that AWS, and newer machines of the others, have.
func TestCloudImageBootsFromNVMe(t *testing.T) {
	image(t) // or skip
	source, err := sourceRoot()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(source, "build", cloudProfile)
	if !built(dir) {
		skip.NotBuilt(t, cloudProfile)
	}
	needFirmware(t)
	t.Run("the platform", func(t *testing.T) {
		t.Parallel()
		disk := filepath.Join(converted(t, dir, "aws"), "omega-aws.raw")
		checkPCRs(t, programOf(t, dir), measure.DiskBoot, asNVMeDisk(disk))
	})
	t.Run("its kernel has the drivers", func(t *testing.T) {
		t.Parallel()
		out := t.TempDir()
		probe, err := buildProbe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		err = variant(dir, out, map[string]func([]byte) ([]byte, error){
			"initrd":  func([]byte) ([]byte, error) { return probePayload(probe) },
			"cmdline": func(b []byte) ([]byte, error) { return append(bytes.TrimSpace(b), " -- devices"...), nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		disk := filepath.Join(converted(t, out, "raw"), "omega.raw")
		console, _, _ := runWithTPM(t, asNVMeDisk(disk), "probe: end")
		for _, want := range []string{" 0x010802 nvme", "probe: list /sys/block nvme0n1", " tpm "} {
			if !strings.Contains(console, want) {
				t.Errorf("no %q on the console:\n%s", want, console)
			}
		}
		if strings.Contains(console, "nvme0n1p1") {
			t.Error("the kernel read the disk's partition table")
		}
	})
}

// needFirmware skips where the firmware or the TPM is missing.
func needFirmware(t *testing.T) {
	t.Helper()
	for _, file := range []string{ovmfCode, ovmfVars} {
		if _, err := os.Stat(file); err != nil {
			skip.Missing(t, "apt-get install ovmf gives the firmware")
		}
	}
	if _, err := exec.LookPath("swtpm"); err != nil {
		skip.Missing(t, "apt-get install swtpm gives the TPM")
	}
}

// programOf is the image in dir as one EFI program.
func programOf(t *testing.T, dir string) []byte {
	t.Helper()
	program, err := os.ReadFile(filepath.Join(converted(t, dir, "uki"), ukiName))
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// checkPCRs boots program from medium and holds the TPM's registers, and the
// firmware's event log, against the prediction.
func checkPCRs(t *testing.T, program []byte, boot measure.Boot, medium []string) {
	t.Helper()
	_, tpm, log := runWithTPM(t, medium, "omega: pid1")
	for _, bank := range []crypto.Hash{crypto.SHA256, crypto.SHA384} {
		p, err := measure.PredictPCRs(program, boot, bank)
		if err != nil {
			t.Fatal(err)
		}
		for _, pcr := range measure.PredictedPCRs {
			if diff := cmp.Diff(predicted(p, pcr), tpm[tpmRegister{pcr, bank}]); diff != "" {
				t.Errorf("PCR %d, %v, as the TPM has it:\n%s", pcr, bank, diff)
			}
			if diff := cmp.Diff(predicted(p, pcr), log[tpmRegister{pcr, bank}]); diff != "" {
				t.Errorf("PCR %d, %v, as the event log has it:\n%s", pcr, bank, diff)
			}
		}
	}
}

// converted is the folder with what `omega convert` makes of the image in dir.
func converted(t *testing.T, dir, to string) string {
	t.Helper()
	out := t.TempDir()
	if code, _, words := omega(t, "convert", "--to", to, "--from", dir, "--out", out); code != exitOK {
		t.Fatalf("exit %d: %s", code, words)
	}
	return out
}

// hostTool runs a program that knows the format without us.
func hostTool(t *testing.T, words ...string) string {
	t.Helper()
	if _, err := exec.LookPath(words[0]); err != nil {
		skip.Missing(t, "%s is not installed; `omega tools --tests` installs it", words[0])
	}
	out, err := exec.CommandContext(t.Context(), words[0], words[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", words, err, out)
	}
	return string(out)
}

// checkRawDisk asks the tools that people have about the disk as it was written.
func checkRawDisk(t *testing.T, disk string, program []byte) {
	t.Helper()
	if out := hostTool(t, "sgdisk", "-v", disk); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk: %s", out)
	}
	var first, last int64
	for line := range strings.Lines(hostTool(t, "sgdisk", "-i", "1", disk)) {
		_, _ = fmt.Sscanf(line, "First sector: %d", &first)
		_, _ = fmt.Sscanf(line, "Last sector: %d", &last)
	}
	esp := filepath.Join(t.TempDir(), "esp")
	hostTool(t, "dd", "if="+disk, "of="+esp, "bs=512", fmt.Sprint("skip=", first), fmt.Sprint("count=", last-first+1))
	hostTool(t, "fsck.vfat", "-n", esp)
	out := filepath.Join(t.TempDir(), "out.efi")
	hostTool(t, "mcopy", "-i", esp, "::EFI/BOOT/BOOTX64.EFI", out)
	if b, err := os.ReadFile(out); err != nil || !bytes.Equal(b, program) {
		t.Errorf("mcopy reads %d other bytes, error %v", len(b), err)
	}
}
