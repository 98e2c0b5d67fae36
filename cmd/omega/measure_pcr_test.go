package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"omega/attest/measure"
	"omega/internal/pe/petest"
)

// ukiFile writes a small UKI and returns its path.
func ukiFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "small.efi")
	uki := petest.Image(
		petest.Section{Name: ".sdmagic", Content: []byte("#### LoaderInfo: systemd-stub 257.13-1~deb13u1 ####")},
		petest.Section{Name: ".cmdline", Content: []byte("quiet")},
		petest.Section{Name: ".linux", Content: petest.Image(petest.Section{Name: ".text", Content: []byte("kernel")})})
	if err := os.WriteFile(path, uki, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMeasurePCRPrintsEveryRegisterOfBothBanks(t *testing.T) {
	path := ukiFile(t)
	code, out, words := omega(t, "measure", "pcr", path)
	if code != exitOK || strings.Count(out, "\n") != 2*2*len(measure.PredictedPCRs) {
		t.Errorf("exit %d, stdout %q, stderr %q", code, out, words)
	}
	code, out, words = omega(t, "measure", "pcr", path, "--boot", "direct", "--events")
	if code != exitOK || !strings.Contains(out, "action: boot option") || strings.Contains(out, "disk") {
		t.Errorf("exit %d, stdout %q, stderr %q", code, out, words)
	}
	code, out, words = omega(t, "measure", "pcr", "--json", path)
	var list []pcrJSON
	if err := json.Unmarshal([]byte(out), &list); code != exitOK || err != nil {
		t.Fatalf("exit %d, %v, stderr %q", code, err, words)
	}
	disk, direct := list[0].PCRs["sha384"], list[1].PCRs["sha384"]
	if len(list) != 2 || disk[4] == direct[4] || disk[11] != direct[11] || len(disk[12]) != 96 || strings.Trim(disk[12], "0") != "" {
		t.Errorf("predictions %+v", list)
	}
}

// QEMU changes such a kernel when it hands it over, so only a disk has PCRs.
func TestMeasurePCRPredictsAKernelByItselfFromDiskAlone(t *testing.T) {
	kernel := petest.Image(petest.Section{Name: ".text", Content: make([]byte, 4096)})
	copy(kernel[0x202:], "HdrS")
	path := filepath.Join(t.TempDir(), "kernel.efi")
	if err := os.WriteFile(path, kernel, 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, words := omega(t, "measure", "pcr", path)
	if code != exitOK || strings.Count(out, "disk ") != 2*len(measure.PredictedPCRs) || strings.Contains(out, "direct") || !strings.Contains(words, "direct boot") {
		t.Errorf("exit %d, stdout %q, stderr %q", code, out, words)
	}
	if code, out, _ := omega(t, "measure", "pcr", path, "--boot", "direct"); code != exitUsage || out != "" {
		t.Errorf("asked for direct boot: exit %d, stdout %q", code, out)
	}
}

func TestMeasurePCRRefusesWhatItCannotPredict(t *testing.T) {
	path := ukiFile(t)
	for name, args := range map[string][]string{
		"no file":                  {},
		"two files":                {path, path},
		"a file that is no UKI":    {os.Args[0]},
		"a file that is not there": {path + "x"},
		"another boot":             {path, "--boot", "network"},
	} {
		if code, out, _ := omega(t, append([]string{"measure", "pcr"}, args...)...); code != exitUsage || out != "" {
			t.Errorf("%s: exit %d, stdout %q", name, code, out)
		}
	}
}
