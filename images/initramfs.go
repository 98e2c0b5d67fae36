package images

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"

	"omega/internal/cache"
	"omega/internal/labelhash"
	"omega/internal/strictjson"
)

// An entry is a file of the initramfs with its content.
type entry struct {
	file
	content []byte
}

// An initramfs is what buildInitrd made.
type initramfs struct {
	path    string // of the compressed archive
	size    int64  // before compression
	entries []entry
}

// buildInitrd makes the initramfs of p.
func buildInitrd(ctx context.Context, s *Store, p profile, o Options) (*initramfs, error) {
	bin, err := os.MkdirTemp("", "omega-build-")
	if err != nil {
		return nil, fmt.Errorf("initramfs: %w", err)
	}
	defer os.RemoveAll(bin)
	var entries []entry
	for _, f := range p.payload {
		content, err := s.content(ctx, p, f, bin, o)
		if err != nil {
			return nil, fmt.Errorf("initramfs: %s: %w", f.path, err)
		}
		entries = append(entries, entry{f, content})
	}
	archive, err := writeArchive(entries)
	if err != nil {
		return nil, err
	}
	path, err := compressed(ctx, s, archive)
	return &initramfs{path, int64(len(archive)), entries}, err
}

// compressed returns the path of the archive as one zstd stream. Compressing
// takes seconds, so it is done once for each archive.
func compressed(ctx context.Context, s *Store, archive []byte) (string, error) {
	sum := sha256.Sum256(archive)
	key := cache.Key(labelhash.Sum256("omega/initramfs/v1", sum[:]))
	dir, err := s.cache.Dir(ctx, "initramfs", key, func(dir string) error {
		step := s.report.begin("compressing the initramfs")
		defer step.Done()
		b, err := compress(archive)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, "initrd"), b, 0o644)
	})
	return filepath.Join(dir, "initrd"), err
}

// content returns the bytes of one file of the initramfs.
func (s *Store) content(ctx context.Context, p profile, f file, bin string, o Options) ([]byte, error) {
	switch f.from.kind {
	case "directory", "device":
		return nil, nil
	case "program":
		step := s.report.begin("building " + f.from.name)
		defer step.Done()
		out := filepath.Join(bin, strings.ReplaceAll(f.path, "/", "_"))
		if err := goBuild(ctx, o.Source, f.from.name, out, ""); err != nil {
			return nil, err
		}
		return os.ReadFile(out)
	case "runsc":
		path, err := Runsc(ctx, o.Source, s.cache, s.report)
		if err != nil {
			return nil, err
		}
		return os.ReadFile(path)
	case "uroot":
		path, err := debugTool(ctx, o.Source, f.from.name, s.cache, s.report)
		if err != nil {
			return nil, err
		}
		return os.ReadFile(path)
	case "identity":
		return imageIdentity(p)
	case "policy":
		return map[string][]byte{"json": o.Policy.JSON, "wasm": o.Policy.Wasm}[f.from.name], nil
	case "roots":
		if o.Roots != nil {
			return o.Roots, nil
		}
		return s.Authorities(ctx)
	}
	return nil, fmt.Errorf("unknown source %q", f.from.kind)
}

// imageIdentity is what the guest knows of the image it is: /init reads it.
func imageIdentity(p profile) ([]byte, error) {
	return strictjson.Canonical(struct {
		Version   string `json:"version"`
		Profile   string `json:"profile"`
		SVN       uint32 `json:"svn"`
		BuildTime string `json:"build_time"`
	}{"omega/image/v1", p.name, p.svn, p.built})
}

// writeArchive writes entries as a newc archive. The bytes depend on the
// entries alone: sorted by path, owner 0, time 0, inodes in order.
func writeArchive(entries []entry) ([]byte, error) {
	entries = slices.Clone(entries)
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.path, b.path) })
	var out bytes.Buffer
	w := cpio.Newc.Writer(&out)
	for i, e := range entries {
		r, err := record(e)
		if err != nil {
			return nil, fmt.Errorf("initramfs: %w", err)
		}
		r = cpio.MakeReproducible(r)
		r.Ino, r.NLink = uint64(i+1), 1
		if err := w.WriteRecord(r); err != nil {
			return nil, fmt.Errorf("initramfs: %s: %w", e.path, err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return nil, fmt.Errorf("initramfs: %w", err)
	}
	return out.Bytes(), nil
}

func record(e entry) (cpio.Record, error) {
	switch {
	case e.mode > 0o777:
		return cpio.Record{}, fmt.Errorf("%s: mode %o is more than permissions", e.path, e.mode)
	case e.from.kind == "directory":
		return cpio.Directory(e.path, e.mode), nil
	case e.from.kind == "device":
		return cpio.CharDev(e.path, e.mode, e.from.major, e.from.minor), nil
	case len(e.content) == 0:
		return cpio.Record{}, fmt.Errorf("%s: no content", e.path)
	}
	return cpio.StaticRecord(e.content, cpio.Info{Name: e.path, Mode: cpio.S_IFREG | e.mode}), nil
}

// compress makes one zstd stream with the encoder pinned in go.sum, so that the
// bytes do not depend on a zstd of the machine.
func compress(b []byte) ([]byte, error) {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	defer w.Close()
	return w.EncodeAll(b, nil), nil
}
