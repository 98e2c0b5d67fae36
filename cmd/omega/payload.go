package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
)

// maxPayload bounds an initramfs that is taken apart.
const maxPayload = 256 << 20

// probePackage is a PID 1 for benchmarks and tests; see its own comment.
const probePackage = "./cmd/omega/internal/probe"

// buildProbe compiles the probe.
func buildProbe(ctx context.Context) ([]byte, error) {
	source, err := sourceRoot()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "omega-probe-")
	if err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "probe")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", out, probePackage)
	cmd.Dir, cmd.Env = source, append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	if said, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the probe: %w: %s", err, said)
	}
	return os.ReadFile(out)
}

// readPayload takes an initramfs apart.
func readPayload(initrd []byte) ([]cpio.Record, error) {
	d, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxPayload))
	if err != nil {
		return nil, fmt.Errorf("initramfs: %w", err)
	}
	defer d.Close()
	archive, err := d.DecodeAll(initrd, nil)
	if err != nil {
		return nil, fmt.Errorf("initramfs: %w", err)
	}
	return cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(archive)))
}

// writePayload makes a plain archive of records; the kernel takes it as it is.
func writePayload(records []cpio.Record) ([]byte, error) {
	var out bytes.Buffer
	w := cpio.Newc.Writer(&out)
	if err := cpio.WriteRecords(w, records); err != nil {
		return nil, fmt.Errorf("initramfs: %w", err)
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return nil, fmt.Errorf("initramfs: %w", err)
	}
	return out.Bytes(), nil
}

// compressPayload compresses an archive as the build does.
func compressPayload(archive []byte) ([]byte, error) {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("initramfs: %w", err)
	}
	defer w.Close()
	return w.EncodeAll(archive, nil), nil
}

// probePayload is an initramfs with nothing but the probe.
func probePayload(probe []byte) ([]byte, error) {
	return writePayload([]cpio.Record{
		cpio.Directory("dev", 0o755),
		cpio.CharDev("dev/console", 0o600, 5, 1),
		cpio.StaticFile("init", string(probe), 0o755),
	})
}

// withProbe is a platform's initramfs whose PID 1 is the probe. The platform's
// own stays in it, under another name, so that the two are of one size.
func withProbe(initrd, probe []byte) ([]byte, error) {
	records, err := readPayload(initrd)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(records, func(r cpio.Record) bool { return r.Name == "init" })
	if i < 0 {
		return nil, fmt.Errorf("initramfs: no init in it")
	}
	records[i].Name = "init.platform"
	archive, err := writePayload(append(records, cpio.StaticFile("init", string(probe), 0o755)))
	if err != nil {
		return nil, err
	}
	return compressPayload(archive)
}

// variant copies the artifacts in from to the folder to, each through its edit.
func variant(from, to string, edits map[string]func([]byte) ([]byte, error)) error {
	for _, name := range []string{"kernel", "initrd", "cmdline", "ovmf.fd"} {
		b, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return err
		}
		if edit := edits[name]; edit != nil {
			if b, err = edit(b); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(to, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}
