package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"omega/agentloader/bundle"
	"omega/internal/strictjson"
)

// Media types of an image's parts (image-spec 1.1, media-types.md).
const (
	typeImageConfig = "application/vnd.oci.image.config.v1+json"
	typeImageLayer  = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// packTime is the time of every file in a packed image, so that the same folder gives the same
// digest: 2020-01-01. Not zero, for programs that take zero for "no file".
var packTime = time.Unix(1577836800, 0).UTC()

// imageOf makes a folder into one layer and the configuration that names it. Only names, contents,
// links and the executable bit count.
func imageOf(dir string) (layer, config []byte, err error) {
	plain := new(bytes.Buffer)
	w := tar.NewWriter(plain)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil || rel == "." {
			return err
		}
		return addToLayer(w, path, filepath.ToSlash(rel), d)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("packing %s: %w", dir, err)
	}
	if err := w.Close(); err != nil {
		return nil, nil, fmt.Errorf("packing %s: %w", dir, err)
	}
	zipped := new(bytes.Buffer)
	z := gzip.NewWriter(zipped)
	if _, err := z.Write(plain.Bytes()); err != nil {
		return nil, nil, err
	}
	if err := z.Close(); err != nil {
		return nil, nil, err
	}
	config, err = strictjson.Canonical(map[string]any{
		"architecture": "amd64",
		"os":           "linux",
		"config":       map[string]any{},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{bundle.DigestOf(plain.Bytes()).String()}},
	})
	return zipped.Bytes(), config, err
}

func addToLayer(w *tar.Writer, path, rel string, d fs.DirEntry) error {
	h := &tar.Header{Name: rel, ModTime: packTime, Mode: 0o644, Format: tar.FormatPAX}
	i, err := d.Info()
	if err != nil {
		return err
	}
	switch {
	case d.IsDir():
		h.Typeflag, h.Name, h.Mode = tar.TypeDir, rel+"/", 0o755
		return w.WriteHeader(h)
	case d.Type() == fs.ModeSymlink:
		h.Typeflag, h.Mode = tar.TypeSymlink, 0o777
		if h.Linkname, err = os.Readlink(path); err != nil {
			return err
		}
		return w.WriteHeader(h)
	case !d.Type().IsRegular():
		return fmt.Errorf("%s is a %s; an image holds files, folders and symlinks", rel, d.Type())
	}
	h.Typeflag, h.Size = tar.TypeReg, i.Size()
	if i.Mode()&0o111 != 0 {
		h.Mode = 0o755
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}
