package main

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"omega/attest/measure"
	"omega/images"
	"omega/internal/cache"
	"omega/internal/pe/petest"
	"omega/internal/skip"
)

// smallImage writes what a build would, but smaller.
func smallImage(t *testing.T) string {
	t.Helper()
	kernel := petest.Image(petest.Section{Name: ".text", Content: make([]byte, 4096)})
	copy(kernel[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(kernel[0x20e:], 0x3a0) // behind the headers' end, where the version is
	copy(kernel[0x5a0:], "6.12.117 (build@build)")
	dir := t.TempDir()
	for name, b := range map[string][]byte{"kernel": kernel, "initrd": []byte("initrd"), "cmdline": []byte("quiet")} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// needStub skips where the pinned stub cannot be had.
func needStub(t *testing.T) {
	t.Helper()
	c, err := cache.Open("")
	if err != nil {
		skip.Missing(t, "%v", err)
	}
	s, err := images.NewStore(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Tree(t.Context(), "systemd-stub"); err != nil {
		skip.Missing(t, "the pinned stub cannot be had: %v", err)
	}
}

func TestConvertWritesTheImageInEveryForm(t *testing.T) {
	needStub(t)
	dir, out := smallImage(t), t.TempDir()
	code, said, words := omega(t, "convert", "--to", "uki", "--from", dir, "--out", out)
	uki, err := os.ReadFile(filepath.Join(out, ukiName))
	if code != exitOK || err != nil || !strings.Contains(said, ukiName) {
		t.Fatalf("exit %d, %v, stdout %q, stderr %q", code, err, said, words)
	}
	// What was written is what a prediction exists for.
	if _, err := measure.PredictPCRs(uki, measure.DiskBoot, crypto.SHA256); err != nil {
		t.Error(err)
	}
	for to, file := range map[string]string{"raw": "omega.raw", "aws": "omega-aws.raw", "azure": "omega-azure.vhd"} {
		code, said, words := omega(t, "convert", "--to", to, "--from", dir, "--out", out)
		b, err := os.ReadFile(filepath.Join(out, file))
		if code != exitOK || err != nil || !bytes.Contains(b, uki) || !strings.Contains(said, file) {
			t.Errorf("%s: exit %d, %v, stdout %q, stderr %q", to, code, err, said, words)
		}
	}
}

func TestConvertPrintsJSON(t *testing.T) {
	needStub(t)
	out := t.TempDir()
	code, said, words := omega(t, "convert", "--to", "raw", "--from", smallImage(t), "--out", out, "--json")
	var got convertedJSON
	err := json.Unmarshal([]byte(said), &got)
	info, statErr := os.Stat(filepath.Join(out, "omega.raw"))
	if code != exitOK || err != nil || statErr != nil || got != (convertedJSON{filepath.Join(out, "omega.raw"), info.Size()}) {
		t.Errorf("exit %d, %v, %v, stdout %q, stderr %q", code, err, statErr, said, words)
	}
}

// A cloud starts a kernel without its drivers and then nobody hears of it again.
func TestConvertSaysWhenAKernelHasNoDriversForClouds(t *testing.T) {
	needStub(t)
	const warning = "has no drivers for clouds"
	for config, warned := range map[string]bool{"CONFIG_A=y\nCONFIG_BLK_DEV_NVME=y\n": false, "CONFIG_A=y\n# CONFIG_BLK_DEV_NVME is not set\n": true} {
		dir := smallImage(t)
		if err := os.WriteFile(filepath.Join(dir, "kernel.config"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, to := range []string{"aws", "raw"} {
			code, _, words := omega(t, "convert", "--to", to, "--from", dir)
			if want := warned && to == "aws"; code != exitOK || strings.Contains(words, warning) != want {
				t.Errorf("%s, %q: exit %d, warned %q, want it %v", to, config, code, words, want)
			}
		}
	}
}

// A kernel with initramfs and command line inside needs no stub around it.
func TestASingleFileIsAProgramByItself(t *testing.T) {
	needStub(t)
	dir := smallImage(t)
	for _, name := range []string{"initrd", "cmdline"} {
		if err := os.Truncate(filepath.Join(dir, name), 0); err != nil {
			t.Fatal(err)
		}
	}
	if code, _, words := omega(t, "convert", "--to", "uki", "--from", dir); code != exitOK {
		t.Fatalf("exit %d, %s", code, words)
	}
	got, err := os.ReadFile(filepath.Join(dir, ukiName))
	if err != nil {
		t.Fatal(err)
	}
	if want, err := os.ReadFile(filepath.Join(dir, "kernel")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes that are not the kernel, error %v", len(got), err)
	}
}

func TestConvertRefusesWhatItCannotMake(t *testing.T) {
	dir := smallImage(t)
	for name, args := range map[string][]string{
		"no form":                {"--from", dir},
		"an unknown form":        {"--to", "floppy", "--from", dir},
		"an argument":            {"--to", "raw", "--from", dir, "more"},
		"a folder that is empty": {"--to", "raw", "--from", t.TempDir()},
	} {
		if code, out, _ := omega(t, append([]string{"convert"}, args...)...); code != exitUsage || out != "" {
			t.Errorf("%s: exit %d, stdout %q", name, code, out)
		}
	}
}
