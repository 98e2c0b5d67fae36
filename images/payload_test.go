package images

import (
	"bytes"
	"debug/elf"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"

	"omega/internal/skip"
	recipe "omega/kernel"
)

// What an image may take (the budgets of the image). Every page of it is
// accepted, hashed and unpacked before the guest's first instruction.
const (
	maxPayload = 24 << 20 // kernel and initramfs
	maxELF     = 3
)

// builtPayload is the image that `omega build` left in build/cpu, and the files
// of its initramfs.
func builtPayload(t *testing.T) (*Artifacts, map[string][]byte) {
	t.Helper()
	a := At(filepath.Join("..", "build", "cpu"))
	b, err := os.ReadFile(a.Initrd)
	if err != nil {
		skip.Missing(t, "no image is built; `omega build` makes one")
	}
	files := map[string][]byte{}
	for _, r := range unpack(t, b) {
		content, err := io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize)))
		if err != nil {
			t.Fatal(err)
		}
		files[r.Name] = content
	}
	return a, files
}

func unpack(t *testing.T, initrd []byte) []cpio.Record {
	t.Helper()
	r, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(1<<30))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	raw, err := r.DecodeAll(initrd, nil)
	if err != nil {
		t.Fatal(err)
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// programs are the names of the ELF files.
func programs(files map[string][]byte) []string {
	var names []string
	for name, b := range files {
		if bytes.HasPrefix(b, []byte(elf.ELFMAG)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func TestTheBuiltImageStaysWithinItsSizes(t *testing.T) {
	a, files := builtPayload(t)
	size := func(path string) int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	kernel, initrd := size(a.Kernel), size(a.Initrd)
	t.Logf("kernel %d bytes, initramfs %d bytes, together %.2f MiB", kernel, initrd, float64(kernel+initrd)/(1<<20))
	variant, err := recipe.Named("cpu")
	if err != nil {
		t.Fatal(err)
	}
	if kernel > variant.MaxSize || variant.MaxSize > 6<<20 {
		t.Errorf("the kernel has %d bytes, more than %d", kernel, variant.MaxSize)
	}
	if kernel+initrd > maxPayload {
		t.Errorf("kernel and initramfs have %d bytes, more than %d", kernel+initrd, maxPayload)
	}
	if list := programs(files); len(list) == 0 || len(list) > maxELF {
		t.Errorf("%d programs, at most %d are wanted: %q", len(list), maxELF, list)
	}
}

// Every program is looked at as it was shipped, not as it was built.
func TestEveryShippedProgramIsWhatAnImageMayCarry(t *testing.T) {
	_, files := builtPayload(t)
	source, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range programs(files) {
		path := filepath.Join(t.TempDir(), filepath.Base(name))
		if err := os.WriteFile(path, files[name], 0o600); err != nil {
			t.Fatal(err)
		}
		// CheckProgram refuses DefaultGODEBUG, dynamic linking, other flags and build paths.
		for _, dir := range []string{source, filepath.Join(source, runscModule), home, os.TempDir() + "/omega-"} {
			if err := CheckProgram(path, dir); err != nil {
				t.Errorf("/%s: %v", name, err)
			}
		}
	}
}

func TestTheBuiltInitramfsHoldsWhatWasReviewed(t *testing.T) {
	a, _ := builtPayload(t)
	initrd, err := os.ReadFile(a.Initrd)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join("testdata", "payload-cpu.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, r := range unpack(t, initrd) {
		kind := map[uint64]string{cpio.S_IFDIR: "directory", cpio.S_IFCHR: "device", cpio.S_IFREG: "file"}[r.Mode&cpio.S_IFMT]
		if kind == "" || r.UID|r.GID|r.MTime != 0 {
			t.Errorf("%s: mode %o, owner %d:%d, time %d", r.Name, r.Mode, r.UID, r.GID, r.MTime)
		}
		got.WriteString(describe(file{r.Name, r.Mode & 0o7777, source{kind: kind}}) + "\n")
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Error(diff)
	}
}
