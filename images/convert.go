package images

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// A Format is a form in which a disk is handed to somebody who boots it.
type Format struct {
	Name string // as `omega convert --to` takes it
	File string // the name of the file
	For  string // who wants it
	// Cloud says that the kernel needs the drivers of a cloud.
	Cloud bool
	unit  int64 // the disk's size is a multiple of it
	// write fills an empty file.
	write func(ctx context.Context, f *os.File, d *Disk, step Step) error
}

// Formats are all forms of the disk. Clouds count in their own units, and want
// the backup of the partition table at the very end.
func Formats() []Format {
	return []Format{
		{"raw", "omega.raw", "QEMU and every tool", false, mebibyte, writeRaw},
		// EBS snapshots are made of raw blocks of 512 KiB.
		{"aws", "omega-aws.raw", "EBS snapshots", true, mebibyte, writeRaw},
		// Compute Engine takes disk.raw in an oldgnu tar.gz, sparse, in whole GiB.
		{"gcp", "omega-gcp.tar.gz", "Compute Engine images", true, 1 << 30, writeTar},
		// Azure takes fixed VHDs whose payload is a multiple of a MiB.
		{"azure", "omega-azure.vhd", "Azure page blobs", true, mebibyte, writeVHD},
	}
}

// FormatNamed returns the format called name.
func FormatNamed(name string) (Format, error) {
	known := ""
	for _, f := range Formats() {
		if f.Name == name {
			return f, nil
		}
		known += " " + f.Name
	}
	return Format{}, fmt.Errorf("no disk format %q; there are%s", name, known)
}

// Write writes a disk that boots program, in the format f, into the folder dir,
// and returns the file's path. The file is there whole or not at all.
func (f Format) Write(ctx context.Context, program []byte, dir string, r Report) (string, error) {
	step := r.begin("writing " + f.File)
	defer step.Done()
	d, err := NewDisk(program, f.unit)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("output folder: %w", err)
	}
	out, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return "", fmt.Errorf("output folder: %w", err)
	}
	path := filepath.Join(dir, f.File)
	err = f.write(ctx, out, d, step)
	err = errors.Join(err, out.Chmod(0o644), out.Close())
	if err == nil {
		err = os.Rename(out.Name(), path)
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("%s: %w", f.File, err), os.Remove(out.Name()))
	}
	return path, nil
}

// WriteFile replaces the file at path at once, in a folder that it makes if need
// be.
func WriteFile(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("output folder: %w", err)
	}
	return writeFile(path, b)
}

func writeRaw(_ context.Context, f *os.File, d *Disk, _ Step) error { return d.WriteSparse(f) }

func writeTar(ctx context.Context, f *os.File, d *Disk, step Step) error {
	z := gzip.NewWriter(f)
	return errors.Join(writeSparseTar(ctx, z, "disk.raw", d, step), z.Close())
}

func writeVHD(_ context.Context, f *os.File, d *Disk, _ Step) error {
	footer := vhdFooter(d.Size)
	if err := d.WriteSparse(f); err != nil {
		return err
	}
	_, err := f.WriteAt(footer, d.Size)
	return err
}
