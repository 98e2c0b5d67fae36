package images

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"omega/internal/skip"
)

// noise is a program of n bytes that does not compress or repeat.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // never an error
	return b
}

// tool runs a program that checks our work, or skips where it is not installed.
func tool(t *testing.T, pkg string, args ...string) string {
	t.Helper()
	bin, err := exec.LookPath(args[0])
	if err != nil {
		skip.Missing(t, "%s is not installed; apt-get install %s gives it", args[0], pkg)
	}
	cmd := exec.CommandContext(t.Context(), bin, args[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// writeDisk writes a disk as a sparse file.
func writeDisk(t *testing.T, d *Disk) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.WriteSparse(f), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// sizes are programs around every bound of the layout.
var sizes = []struct {
	name string
	n    int
}{
	{"one byte", 1}, {"a cluster", 512}, {"a cluster and a byte", 513}, {"our image", 21<<20 + 17}, {"beyond the smallest file system", 40 << 20},
	{"the last with small clusters", 256 << 20}, {"the first with large clusters", 256<<20 + 1},
}

func TestFileSystemCheckersFindNothingToSay(t *testing.T) {
	for _, tt := range sizes {
		t.Run(tt.name, func(t *testing.T) {
			if tt.n > 64<<20 && testing.Short() {
				t.Skip("large")
			}
			program := noise(tt.n)
			d, err := NewDisk(program, mebibyte)
			if err != nil {
				t.Fatal(err)
			}
			path := writeDisk(t, d)
			if out := tool(t, "gdisk", "sgdisk", "-v", path); !strings.Contains(out, "No problems found") {
				t.Errorf("sgdisk: %s", out)
			}
			esp := filepath.Join(t.TempDir(), "esp")
			cutOut(t, path, esp, partitionAt, d.Size-2*mebibyte)
			if out := tool(t, "dosfstools", "fsck.vfat", "-n", "-v", esp); strings.Contains(out, "differences") {
				t.Errorf("fsck.vfat: %s", out)
			}
			if out := tool(t, "mtools", "mdir", "-b", "-/", "-i", esp); strings.TrimSpace(out) != "::/EFI/\n::/EFI/BOOT/\n::/EFI/BOOT/BOOTX64.EFI" {
				t.Errorf("mdir: %s", out)
			}
			back := filepath.Join(t.TempDir(), "back")
			tool(t, "mtools", "mcopy", "-i", esp, "::EFI/BOOT/BOOTX64.EFI", back)
			if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, program) {
				t.Errorf("%d other bytes come back, error %v", len(got), err)
			}
		})
	}
}

// cutOut copies a part of a file, sparsely.
func cutOut(t *testing.T, from, to string, at, n int64) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(out, io.NewSectionReader(in, at, n))
	if err := errors.Join(err, out.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestPartitionIsAnEFISystemPartition(t *testing.T) {
	d, err := NewDisk(noise(1000), mebibyte)
	if err != nil {
		t.Fatal(err)
	}
	out := tool(t, "gdisk", "sgdisk", "-p", "-i", "1", writeDisk(t, d))
	for _, want := range []string{
		"C12A7328-F81F-11D2-BA4B-00A0C93EC93B (EFI system partition)", "6F6D6567-6100-4000-8000-6F6D65676101",
		"Partition unique GUID: 6F6D6567-6100-4000-8000-6F6D65676102", "First sector: 2048",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

func TestSparseFilesAndStreamsHoldTheSameBytes(t *testing.T) {
	for _, unit := range []int64{mebibyte, 64 * mebibyte} {
		d, err := NewDisk(noise(100_000), unit)
		if err != nil {
			t.Fatal(err)
		}
		file, err := os.ReadFile(writeDisk(t, d))
		if err != nil {
			t.Fatal(err)
		}
		stream, err := io.ReadAll(d.Reader())
		if err != nil || !bytes.Equal(file, stream) || int64(len(stream)) != d.Size || d.Size%unit != 0 {
			t.Errorf("a file of %d and a stream of %d bytes differ, of a disk of %d; error %v", len(file), len(stream), d.Size, err)
		}
		again, err := NewDisk(noise(100_000), unit)
		if err != nil {
			t.Fatal(err)
		}
		if other, err := io.ReadAll(again.Reader()); err != nil || !bytes.Equal(stream, other) {
			t.Errorf("two disks of the same program differ, error %v", err)
		}
	}
}

// The backup of the GPT has to stand in the last sector: some clouds look there.
func TestBothPartitionTablesNameOneAnother(t *testing.T) {
	d, err := NewDisk(noise(10), 64*mebibyte)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(d.Reader())
	if err != nil {
		t.Fatal(err)
	}
	last := uint64(len(b)/sectorSize - 1)
	first, backup := b[sectorSize:], b[last*sectorSize:]
	if string(backup[:8]) != "EFI PART" || binary.LittleEndian.Uint64(first[32:]) != last || binary.LittleEndian.Uint64(backup[32:]) != 1 {
		t.Errorf("headers %x and %x", first[:92], backup[:92])
	}
}

func TestDisksRefuseSizesThatDoNotWork(t *testing.T) {
	_, err := NewDisk(nil, mebibyte)
	expect(t, err, "program of 0 bytes")
	_, err = NewDisk(noise(1), 1000)
	expect(t, err, "units")
	_, err = NewDisk(noise(1), 128<<30)
	expect(t, err, "more than")
}
