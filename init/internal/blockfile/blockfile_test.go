package blockfile

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"omega/internal/verity"
)

func diskOf(t *testing.T, data []byte) (disk []byte, root [32]byte) {
	t.Helper()
	root, tail, err := verity.Append(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return append(bytes.Clone(data), tail...), root
}

func TestADiskIsKnownByTheBlockThatTheRootNames(t *testing.T) {
	dev := t.TempDir()
	sys := fstest.MapFS{}
	put := func(name string, b []byte) {
		sys["block/"+name+"/size"] = &fstest.MapFile{}
		if err := os.WriteFile(filepath.Join(dev, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	large, small := bytes.Repeat([]byte("model "), 3000), []byte("one block")
	largeDisk, largeRoot := diskOf(t, large)
	smallDisk, smallRoot := diskOf(t, small)
	put("vda", []byte("OMEGACFG"))
	put("vdb", append(largeDisk, make([]byte, 8192)...)) // a disk may be larger
	put("vdc", smallDisk)
	put("dm-0", largeDisk)
	sys["block/vdd/size"] = &fstest.MapFile{} // not there any more
	tests := []struct {
		name string
		root [32]byte
		size int64
		want string
	}{
		{"many blocks", largeRoot, int64(len(large)), "vdb"},
		{"one block", smallRoot, int64(len(small)), "vdc"},
		{"another root", [32]byte{1}, int64(len(large)), ""},
		{"another size", largeRoot, int64(len(small)), ""},
		{"far beyond the end", largeRoot, verity.MaxSize, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := Find(sys, dev, tt.root, tt.size); err != nil || got != tt.want {
				t.Errorf("found %q, %v, want %q", got, err, tt.want)
			}
		})
	}
	put("vdb", largeDisk[:len(largeDisk)-100])
	if got, err := Find(sys, dev, largeRoot, int64(len(large))); err != nil || got == "vdb" {
		t.Errorf("a disk that ends within the tree: %q, %v", got, err)
	}
	if got, err := Find(fstest.MapFS{}, dev, largeRoot, 1); err != nil || got != "" {
		t.Errorf("no disks at all: %q, %v", got, err)
	}
}

// The kernel's own EROFS reads the image; a loop device stands in for the verity device, which only the guest's
// kernel has: `omega boot` with a model's disk is the test of that.
func TestTheKernelReadsTheFileFromTheSecondDevice(t *testing.T) {
	types, err := os.ReadFile("/proc/filesystems")
	if err != nil || !strings.Contains(string(types), "erofs") || os.Getuid() != 0 {
		t.Skip("not root, or a kernel without EROFS")
	}
	data := bytes.Repeat([]byte("0123456789abcde\n"), 700_001)
	padded := append(bytes.Clone(data), make([]byte, verity.DataBlocks(int64(len(data)))*verity.BlockSize-int64(len(data)))...)
	checked, err := attach("data", padded)
	if err != nil {
		t.Skipf("no loop device: %v", err)
	}
	defer checked.Close()
	f := &File{dir: filepath.Join(t.TempDir(), "m")}
	if err := f.mount(checked.Name(), int64(len(data))); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(f.dir, fileName))
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	list, err := os.ReadDir(f.dir)
	if err != nil || len(list) != 1 || !list[0].Type().IsRegular() {
		t.Errorf("folder %v, %v", list, err)
	}
	if err := os.WriteFile(filepath.Join(f.dir, fileName), nil, 0o600); err == nil {
		t.Error("the file was written")
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(f.dir); !os.IsNotExist(err) {
		t.Errorf("the mount point is left: %v", err)
	}
}

func TestTheVerityTableNamesRootAndPlaces(t *testing.T) {
	got, err := verityTable("/dev/null", [32]byte{0xab}, 3*4096+1)
	if err != nil {
		t.Fatal(err)
	}
	number := fmt.Sprintf("%d:%d", 1, 3) // of /dev/null (Documentation/admin-guide/devices.txt)
	if want := "1 " + number + " " + number + " 4096 4096 4 4 sha256 ab" + strings.Repeat("00", 31) + " -"; got != want {
		t.Errorf("table %q, want %q", got, want)
	}
	if _, err := Open("/nonexistent", [32]byte{1}, 1, t.TempDir()); err == nil {
		t.Error("opened a disk that is not there")
	}
}
