// Package blockfile makes a regular file of an untrusted disk that holds a raw file and its verity tree.
// The kernel's dm-verity checks every block when it is read: a block that was changed is an I/O error for
// who reads it and never other data.
//
// The file is the only one of a small EROFS image that this package writes itself and that names the
// verity device as the place of the contents; nothing that stands on the disk is taken for more than the
// bytes of the file. Whoever may read the mount may read the file: it is not hidden.
package blockfile

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"omega/internal/verity"
)

// virtual are the beginnings of the names of block devices that are no disks of the machine.
var virtual = []string{"loop", "dm-", "ram", "zram"}

// Find returns the name, below dev, of the disk that holds the file of that root and size, or "". A disk
// is known by the one block whose hash is the root, so that no name of the host's is believed. sys is
// /sys, dev is /dev.
func Find(sys fs.FS, dev string, root [32]byte, size int64) (string, error) {
	disks, err := fs.ReadDir(sys, "block")
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("disks: %w", err)
	}
	for _, d := range disks {
		if !isVirtual(d.Name()) && holds(filepath.Join(dev, d.Name()), root, size) {
			return d.Name(), nil
		}
	}
	return "", nil
}

func isVirtual(name string) bool {
	for _, v := range virtual {
		if strings.HasPrefix(name, v) {
			return true
		}
	}
	return false
}

// holds reports whether a disk begins as it must. One that cannot be read holds nothing.
func holds(path string, root [32]byte, size int64) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, verity.DiskBlocks(size)*verity.BlockSize-1); err != nil && !errors.Is(err, io.EOF) {
		return false
	}
	b := make([]byte, verity.BlockSize)
	if _, err := f.ReadAt(b, verity.RootBlock(size)*verity.BlockSize); err != nil {
		return false
	}
	return sha256.Sum256(b) == root
}

// A File is a regular file over a disk.
type File struct {
	Path   string
	Device string // major:minor of what it is read from

	dir  string
	name string // of the verity device
	undo []func() error
}

// Open makes the file of that root and size, which disk holds, in a folder below dir. Close it when nobody
// reads it any more.
func Open(disk string, root [32]byte, size int64, dir string) (_ *File, err error) {
	f := &File{name: fmt.Sprintf("omega-%x-%d", root[:16], size)}
	f.dir = filepath.Join(dir, f.name)
	f.Path = filepath.Join(f.dir, fileName)
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("file on disk %s: %w", filepath.Base(disk), err), f.Close())
		}
	}()
	checked, err := f.activate(disk, root, size)
	if err != nil {
		return nil, err
	}
	if err := f.mount(checked, size); err != nil {
		return nil, err
	}
	return f, nil
}

// activate makes the verity device and returns its path.
func (f *File) activate(disk string, root [32]byte, size int64) (string, error) {
	table, err := verityTable(disk, root, size)
	if err != nil {
		return "", err
	}
	m, err := openMapper()
	if err != nil {
		return "", err
	}
	defer m.Close()
	minor, err := m.create(f.name)
	if err != nil {
		return "", err
	}
	f.undo = append(f.undo, func() error { return removeDevice(f.name) })
	if err := m.load(f.name, uint64(verity.DataBlocks(size))*verity.BlockSize/512, "verity", table); err != nil {
		return "", err
	}
	checked := fmt.Sprintf("/dev/dm-%d", minor)
	if err := m.resume(f.name); err != nil {
		return "", err
	}
	f.Device, err = number(checked)
	return checked, err
}

// verityTable are the words that the target is made with (verity.rst, Construction Parameters).
func verityTable(disk string, root [32]byte, size int64) (string, error) {
	disk, err := number(disk)
	if err != nil {
		return "", err
	}
	blocks := verity.DataBlocks(size)
	return fmt.Sprintf("1 %s %s %d %d %d %d sha256 %x -", disk, disk, verity.BlockSize, verity.BlockSize, blocks, blocks, root), nil
}

// number is how the kernel names a block device where it has no path.
func number(device string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		return "", fmt.Errorf("disk: %w", err)
	}
	return fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)), nil
}

// mount mounts the image whose file's contents are the checked device's.
func (f *File) mount(checked string, size int64) error {
	loop, err := attach(f.dir, imageOf(size))
	if err != nil {
		return err
	}
	defer loop.Close() // the mount keeps it, and gives it up
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return fmt.Errorf("mount point: %w", err)
	}
	f.undo = append(f.undo, func() error { return os.Remove(f.dir) })
	const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount(loop.Name(), f.dir, "erofs", flags, "device="+checked); err != nil {
		return fmt.Errorf("mounting: %w", err)
	}
	f.undo = append(f.undo, func() error { return unix.Unmount(f.dir, 0) })
	return nil
}

// Corrupted reports whether a block was read that does not belong to the root.
func (f *File) Corrupted() (bool, error) {
	m, err := openMapper()
	if err != nil {
		return false, err
	}
	defer m.Close()
	status, err := m.status(f.name)
	// "V" until a block is found corrupted, then "C" (verity.rst, Status).
	return err == nil && status != "V", err
}

// Close gives everything up, in reverse.
func (f *File) Close() error {
	var err error
	for i := len(f.undo) - 1; i >= 0; i-- {
		err = errors.Join(err, f.undo[i]())
	}
	f.undo = nil
	return err
}
