package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"omega/internal/vectors"
)

func mustTime(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestMeasurePrintsTheLaunchDigest(t *testing.T) {
	ovmf := filepath.Join(vectors.Dir(t), "launch-digest", "ovmf_AmdSev_suffix.bin")
	// The second case of the golden file.
	code, out, words := omega(t, "measure", "--ovmf", ovmf, "--vcpus", "1", "--vcpu-type", "EPYC-v4", "--vmm", "gce", "--guest-features", "0x21")
	if code != exitOK || strings.TrimSpace(out) != "9c96dee4a68d83f9ddaec6d67894232d8ed6b419121c82f51453f955a24a767fcc6c68dd54ed6d25bbf608877788a8fe" {
		t.Errorf("exit %d, stdout %q, stderr %q", code, out, words)
	}
	file := filepath.Join(t.TempDir(), "machine.igvm")
	code, out, words = omega(t, "measure", "--ovmf", ovmf, "--vcpus", "2", "--vcpu-type", "EPYC-Milan", "--igvm", file)
	// A loader takes the file apart in package measure's tests.
	if b, err := os.ReadFile(file); code != exitOK || err != nil || !bytes.HasPrefix(b, []byte("IGVM")) || len(out) != 97 {
		t.Errorf("exit %d, %v, stdout %q, stderr %q", code, err, out, words)
	}
	for name, args := range map[string][]string{
		"an IGVM file for GCE":         {"--ovmf", ovmf, "--vcpu-type", "EPYC", "--vmm", "gce", "--igvm", file},
		"no firmware":                  {"--vcpus", "1", "--vcpu-type", "EPYC-v4"},
		"an unknown CPU":               {"--ovmf", ovmf, "--vcpu-type", "Opteron"},
		"features that are no number":  {"--ovmf", ovmf, "--vcpu-type", "EPYC", "--guest-features", "x"},
		"a kernel that is not there":   {"--ovmf", ovmf, "--vcpu-type", "EPYC", "--kernel", ovmf + "x"},
		"a kernel's digest of 3 bytes": {"--ovmf", ovmf, "--vcpu-type", "EPYC", "--kernel", "sha256:010203"},
		"an argument too many":         {"--ovmf", ovmf, "--vcpu-type", "EPYC", "more"},
	} {
		if code, out, _ := omega(t, append([]string{"measure"}, args...)...); code != exitUsage || out != "" {
			t.Errorf("%s: exit %d, stdout %q", name, code, out)
		}
	}
}

func TestMeasureDiffNamesWhatDiffers(t *testing.T) {
	a, b := newPlatform(t), newPlatform(t)
	if code, out, _ := omega(t, "measure", "--diff", a.manifest, b.manifest); code != exitOK || !strings.Contains(out, "no difference") {
		t.Errorf("equal manifests: exit %d, %q", code, out)
	}
	b.launch.Digest[1]++
	b.writeManifest(t)
	code, out, _ := omega(t, "measure", "--diff", a.manifest, b.manifest)
	if code != exitMismatch || !strings.Contains(out, "launch digest for 2 vCPUs of EPYC-Milan") || strings.Contains(out, "artifact") {
		t.Errorf("different manifests: exit %d, %q", code, out)
	}
}
