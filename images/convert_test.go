package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// convert writes program in a format and returns the file's path.
func convert(t *testing.T, name string, program []byte) string {
	t.Helper()
	f, err := FormatNamed(name)
	if err != nil {
		t.Fatal(err)
	}
	path, err := f.Write(t.Context(), program, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// rawDisk is what the disk of program holds.
func rawDisk(t *testing.T, program []byte, unit int64) []byte {
	t.Helper()
	d, err := NewDisk(program, unit)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(d.Reader())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// qemuInfo is what qemu-img says of a file.
type qemuInfo struct {
	Format string `json:"format"`
	Size   int64  `json:"virtual-size"`
}

// infoOf names the format, because qemu-img does not look at the end of a file.
func infoOf(t *testing.T, format, path string) (info qemuInfo) {
	t.Helper()
	if err := json.Unmarshal([]byte(tool(t, "qemu-utils", "qemu-img", "info", "-f", format, "--output=json", path)), &info); err != nil {
		t.Fatal(err)
	}
	return info
}

func TestRawDisksAreSparseFiles(t *testing.T) {
	program := noise(100_000)
	for _, name := range []string{"raw", "aws"} {
		path := convert(t, name, program)
		b, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(b, rawDisk(t, program, mebibyte)) {
			t.Errorf("%s: other bytes, error %v", name, err)
		}
		var st syscall.Stat_t
		if err := syscall.Stat(path, &st); err != nil || st.Blocks*512 > 4*mebibyte {
			t.Errorf("%s: %d bytes on the disk, error %v", name, st.Blocks*512, err)
		}
		if info := infoOf(t, "raw", path); info.Format != "raw" || info.Size != int64(len(b)) {
			t.Errorf("%s: qemu-img says %+v", name, info)
		}
	}
}

func TestAzureGetsAFixedVHD(t *testing.T) {
	program := noise(100_000)
	path := convert(t, "azure", program)
	want := rawDisk(t, program, mebibyte)
	b, err := os.ReadFile(path)
	if err != nil || len(b) != len(want)+sectorSize || !bytes.Equal(b[:len(want)], want) {
		t.Fatalf("%d bytes, error %v", len(b), err)
	}
	if info := infoOf(t, "vpc", path); info.Format != "vpc" || info.Size != int64(len(want)) || info.Size%mebibyte != 0 {
		t.Errorf("qemu-img says %+v", info)
	}
	back := filepath.Join(t.TempDir(), "back.raw")
	tool(t, "qemu-utils", "qemu-img", "convert", "-f", "vpc", "-O", "raw", path, back)
	if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, want) {
		t.Errorf("qemu-img reads %d other bytes, error %v", len(got), err)
	}
}

// qemu-img's own footer differs from ours in the time, the identity, the
// checksum over them, and the geometry, which it sets to the largest there is.
func TestVHDFooterIsTheOneThatQEMUWrites(t *testing.T) {
	raw := writeDisk(t, &Disk{Size: 48 * mebibyte})
	vhd := filepath.Join(t.TempDir(), "theirs.vhd")
	tool(t, "qemu-utils", "qemu-img", "convert", "-f", "raw", "-O", "vpc", "-o", "subformat=fixed,force_size", raw, vhd)
	theirs, err := os.ReadFile(vhd)
	if err != nil {
		t.Fatal(err)
	}
	footer, ours := theirs[len(theirs)-sectorSize:], vhdFooter(48*mebibyte)
	for _, field := range []struct {
		name     string
		from, to int
	}{
		{"cookie to data offset", 0, 24}, {"creator", 28, 32}, {"host", 36, 40}, {"sizes", 40, 56}, {"type", 60, 64}, {"rest", 84, 512},
	} {
		if !bytes.Equal(footer[field.from:field.to], ours[field.from:field.to]) {
			t.Errorf("%s: %x, qemu-img has %x", field.name, ours[field.from:field.to], footer[field.from:field.to])
		}
	}
}

func TestVHDFooterAddsUp(t *testing.T) {
	for _, size := range []int64{mebibyte, 48 * mebibyte, 1 << 30, 200 << 30} {
		b := vhdFooter(size)
		var sum uint32
		for i, c := range b {
			if i < 64 || i >= 68 {
				sum += uint32(c)
			}
		}
		if got := uint32(b[64])<<24 | uint32(b[65])<<16 | uint32(b[66])<<8 | uint32(b[67]); got != ^sum {
			t.Errorf("%d: checksum %#x, want %#x", size, got, ^sum)
		}
	}
	tests := []struct {
		size            int64
		cylinders       uint16
		heads, perTrack uint8
	}{
		{48 * mebibyte, 963, 6, 17}, {1 << 30, 2080, 16, 63}, {200 << 30, 65535, 16, 255},
	}
	for _, tt := range tests {
		if c, h, s := geometry(tt.size / sectorSize); c != tt.cylinders || h != tt.heads || s != tt.perTrack {
			t.Errorf("%d bytes: geometry %d, %d, %d", tt.size, c, h, s)
		}
	}
}

// smallUnit stands for a GiB, which takes too long to compare for a test.
const smallUnit = 64 * mebibyte

func smallArchive(t *testing.T, program []byte) string {
	t.Helper()
	f, err := FormatNamed("gcp")
	if err != nil {
		t.Fatal(err)
	}
	if f.unit != 1<<30 {
		t.Errorf("disks are multiples of %d bytes, want whole GiB", f.unit)
	}
	f.unit = smallUnit
	path, err := f.Write(t.Context(), program, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestGoogleGetsAnArchiveOfWholeGiB(t *testing.T) {
	program := noise(100_000)
	path := smallArchive(t, program)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewReader(z)
	h, err := archive.Next()
	if err != nil {
		t.Fatal(err)
	}
	if h.Name != "disk.raw" || h.Size != smallUnit || h.Format != tar.FormatGNU || h.Uname != "" || h.ModTime.Unix() != 0 || z.ModTime.Unix() > 0 {
		t.Errorf("member %+v, compressed at %v", h, z.ModTime)
	}
	d, err := NewDisk(program, smallUnit)
	if err != nil {
		t.Fatal(err)
	}
	sameStreams(t, d.Reader(), archive)
	if h, err := archive.Next(); err != io.EOF {
		t.Errorf("another member %+v, error %v", h, err)
	}
	if out := tool(t, "tar", "tar", "-tzf", path); out != "disk.raw\n" {
		t.Errorf("tar says %q", out)
	}
}

// The archive has no more in it than the disk has, and GNU tar, which wrote down
// the format, makes the same sparse file of it.
func TestGNUTarUnpacksTheArchiveAsASparseFile(t *testing.T) {
	program := noise(100_000)
	path, dir := smallArchive(t, program), t.TempDir()
	if info, err := os.Stat(path); err != nil || info.Size() > 2*int64(len(program)) {
		t.Errorf("the archive has %d bytes for a program of %d, error %v", info.Size(), len(program), err)
	}
	tool(t, "tar", "tar", "-xzf", path, "-C", dir)
	raw := filepath.Join(dir, "disk.raw")
	if b, err := os.ReadFile(raw); err != nil || !bytes.Equal(b, rawDisk(t, program, smallUnit)) {
		t.Errorf("tar unpacks %d other bytes, error %v", len(b), err)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(raw, &st); err != nil || st.Blocks*512 > 4*mebibyte {
		t.Errorf("%d bytes on the disk, error %v", st.Blocks*512, err)
	}
}

// Extents beyond those that a tar header has room for go into blocks behind it.
func TestArchivesHoldAnyNumberOfExtents(t *testing.T) {
	for _, n := range []int{0, 3, 4, 24, 25, 26, 80} {
		d := &Disk{Size: 4 * mebibyte}
		for i := range n {
			d.add(int64(2*i+1)*sectorSize, noise(1+i))
		}
		var out bytes.Buffer
		if err := writeSparseTar(t.Context(), &out, "disk.raw", d, Report(nil).begin("")); err != nil {
			t.Fatal(err)
		}
		archive := tar.NewReader(&out)
		if h, err := archive.Next(); err != nil || h.Size != d.Size {
			t.Errorf("%d extents: member %+v, error %v", n, h, err)
			continue
		}
		got, err := io.ReadAll(archive)
		want, _ := io.ReadAll(d.Reader())
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d extents: other bytes, error %v", n, err)
		}
	}
}

func sameStreams(t *testing.T, a, b io.Reader) {
	t.Helper()
	const chunk = mebibyte
	x, y := make([]byte, chunk), make([]byte, chunk)
	for {
		n, errA := io.ReadFull(a, x)
		m, errB := io.ReadFull(b, y)
		if n != m || !bytes.Equal(x[:n], y[:m]) {
			t.Fatal("other bytes")
		}
		if errA != nil || errB != nil {
			return
		}
	}
}

func TestConversionsGiveTheSameBytesAgain(t *testing.T) {
	program := noise(5000)
	for _, f := range Formats() {
		write := func() string { return convert(t, f.Name, program) }
		if f.Name == "gcp" {
			write = func() string { return smallArchive(t, program) }
		}
		a, err := os.Open(write())
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.Open(write())
		if err != nil {
			t.Fatal(err)
		}
		sameStreams(t, a, b)
		if err := errors.Join(a.Close(), b.Close()); err != nil {
			t.Error(err)
		}
	}
}

func TestWhatIsInterruptedLeavesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f, err := FormatNamed("gcp")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := f.Write(ctx, noise(10), dir, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v is left, error %v", left, err)
	}
	_, err = FormatNamed("floppy")
	expect(t, err, "there are raw aws gcp azure")
}
