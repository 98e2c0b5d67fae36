package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"omega/agentloader/bundle"
	"omega/internal/strictjson"
)

// runBundleLayout writes bundles with all their parts and signatures as an OCI image layout in a tar archive, for
// machines without a registry: `omega boot --layout`.
func runBundleLayout(ctx context.Context, e *env, args []string) error {
	fs := e.flags("bundle")
	out := fs.String("out", "", "the archive; it is also the disk")
	plain := fs.Bool("plain-http", false, "speak HTTP to a registry that is not on this machine")
	bare := fs.Bool("without-files", false, "leave models, adapters and data out: they have disks of their own")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := need(fs, "out"); err != nil {
		return err
	}
	if fs.NArg() == 0 {
		return errors.New("omega bundle layout: want HOST/REPOSITORY@sha256:…, one or more")
	}
	p := e.progress("writing " + *out)
	defer p.Done()
	return writeLayout(ctx, *out, fs.Args(), *plain, *bare)
}

func writeLayout(ctx context.Context, out string, refs []string, plain, bare bool) (err error) {
	f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := &layoutWriter{tar: tar.NewWriter(f), bare: bare, done: map[bundle.Digest]bool{}}
	if err := w.put("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	for _, s := range refs {
		ref, err := parseRef(s, plain)
		if err != nil {
			return err
		}
		w.repo = ref.repo
		if err := w.bundle(ctx, ref.digest); err != nil {
			return fmt.Errorf("%s: %w", ref, err)
		}
	}
	index, err := strictjson.Canonical(bundle.OCIIndex{SchemaVersion: 2, MediaType: typeImageIndex, Manifests: w.manifests})
	if err != nil {
		return err
	}
	if err := w.put("index.json", index); err != nil {
		return err
	}
	return w.tar.Close()
}

// typeImageIndex is an OCI image index (image-spec 1.1, media-types.md).
const typeImageIndex = "application/vnd.oci.image.index.v1+json"

// layoutWriter writes each manifest and blob once.
type layoutWriter struct {
	tar       *tar.Writer
	repo      name.Repository
	bare      bool
	done      map[bundle.Digest]bool
	manifests []bundle.OCIDescriptor
}

// bundle writes a bundle and what its agent manifest names.
func (w *layoutWriter) bundle(ctx context.Context, d bundle.Digest) error {
	m, err := bundle.ReadManifest(ctx, remoteSource{w.repo}, d)
	if err != nil {
		return err
	}
	parts := []bundle.Digest{d, m.Image.Digest}
	for _, t := range m.Tools {
		parts = append(parts, t.Descriptors)
	}
	for _, f := range m.Files() {
		parts = append(parts, f.Digest)
	}
	for _, part := range parts {
		if err := w.manifest(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// manifest writes a manifest, its blobs, and the manifests that refer to it.
func (w *layoutWriter) manifest(ctx context.Context, d bundle.Digest) error {
	if w.done[d] {
		return nil
	}
	w.done[d] = true
	source := remoteSource{w.repo}
	raw, err := source.Manifest(ctx, d, bundle.MaxOCIManifest)
	if err != nil {
		return err
	}
	m, err := bundle.ParseOCIManifest(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", d, err)
	}
	for _, b := range append([]bundle.OCIDescriptor{m.Config}, m.Layers...) {
		if w.bare && b.MediaType == bundle.TypeFile {
			continue
		}
		if err := w.blob(ctx, b); err != nil {
			return err
		}
	}
	if err := w.put(blobName(d), raw); err != nil {
		return err
	}
	w.manifests = append(w.manifests, bundle.OCIDescriptor{MediaType: bundle.TypeOCIManifest, ArtifactType: m.ArtifactType, Digest: d, Size: int64(len(raw))})
	referrers, err := source.Referrers(ctx, d)
	if err != nil {
		return err
	}
	slices.SortFunc(referrers, func(a, b bundle.Digest) int { return slices.Compare(a[:], b[:]) })
	for _, r := range referrers {
		if err := w.manifest(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// blob streams a blob from the registry into the archive.
func (w *layoutWriter) blob(ctx context.Context, d bundle.OCIDescriptor) error {
	if w.done[d.Digest] {
		return nil
	}
	w.done[d.Digest] = true
	l, err := remote.Layer(w.repo.Digest(d.Digest.String()), remoteOptions(ctx)...)
	if err != nil {
		return absent(err)
	}
	r, err := l.Compressed() // its digest is checked as it is read
	if err != nil {
		return absent(err)
	}
	defer r.Close()
	if err := w.tar.WriteHeader(layoutHeader(blobName(d.Digest), d.Size)); err != nil {
		return err
	}
	n, err := io.Copy(w.tar, r)
	if err == nil && n != d.Size {
		err = fmt.Errorf("%d bytes, not %d", n, d.Size)
	}
	if err != nil {
		return exit(exitMismatch, fmt.Errorf("%s: %w", d.Digest, err))
	}
	return nil
}

func (w *layoutWriter) put(name string, b []byte) error {
	if err := w.tar.WriteHeader(layoutHeader(name, int64(len(b)))); err != nil {
		return err
	}
	_, err := w.tar.Write(b)
	return err
}

func layoutHeader(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: packTime}
}

func blobName(d bundle.Digest) string { return "blobs/sha256/" + d.Hex() }
