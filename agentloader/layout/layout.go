// Package layout reads bundles from an OCI image layout in a tar archive, as it lies on a raw disk: bundles
// without a registry.
//
// The archive is believed no more than a registry is: its headers are read once, within bounds, for the
// places of blobs; every blob is hashed when it is read, and what is called a referrer is only looked at.
// No file of it is ever written or mounted.
package layout

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"omega/agentloader/bundle"
)

// Why a layout or a part of it is refused.
var (
	ErrLayout   = errors.New("no OCI layout in a tar archive")
	ErrNotFound = errors.New("layout does not have it")
	ErrDigest   = errors.New("content does not match its digest")
	ErrLength   = errors.New("content has another length than it should")
)

// Bounds of a layout. They are what one admission can make the reader do.
const (
	maxSize      = 1 << 42
	maxEntries   = 100_000
	maxManifests = 1024
	maxReferrers = 64
	maxIndex     = 1 << 20
)

// A Layout knows the places of the blobs in an archive.
type Layout struct {
	r         io.ReaderAt
	blobs     map[bundle.Digest]extent
	referrers map[bundle.Digest][]bundle.Digest
}

type extent struct{ off, size int64 }

// Open reads the headers of the archive and the manifests that its index names.
func Open(r io.ReaderAt) (*Layout, error) {
	l := &Layout{r: r, blobs: map[bundle.Digest]extent{}, referrers: map[bundle.Digest][]bundle.Digest{}}
	index, err := l.scan()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLayout, err)
	}
	raw := make([]byte, index.size)
	if _, err := io.ReadFull(io.NewSectionReader(r, index.off, index.size), raw); err != nil {
		return nil, fmt.Errorf("%w: index.json: %w", ErrLayout, err)
	}
	list, err := bundle.ParseOCIIndex(raw, maxIndex)
	if err != nil {
		return nil, fmt.Errorf("%w: index.json: %w", ErrLayout, err)
	}
	if len(list.Manifests) > maxManifests {
		return nil, fmt.Errorf("%w: %d manifests, at most %d", ErrLayout, len(list.Manifests), maxManifests)
	}
	for _, d := range list.Manifests {
		l.refer(d.Digest)
	}
	return l, nil
}

// scan finds the blobs and returns where index.json lies.
func (l *Layout) scan() (index extent, err error) {
	s := io.NewSectionReader(l.r, 0, maxSize)
	t := tar.NewReader(s)
	for n := 0; ; n++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return index, err
		}
		if n >= maxEntries {
			return index, fmt.Errorf("more than %d entries", maxEntries)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		off, err := s.Seek(0, io.SeekCurrent)
		if err != nil {
			return index, err
		}
		name := strings.TrimPrefix(h.Name, "./")
		if digits, ok := strings.CutPrefix(name, "blobs/sha256/"); ok {
			if d, err := bundle.ParseDigest("sha256:" + digits); err == nil {
				l.blobs[d] = extent{off, h.Size}
			}
		}
		if name == "index.json" && h.Size <= maxIndex {
			index = extent{off, h.Size}
		}
	}
	if index.size == 0 {
		return index, errors.New("it has no index.json, or one that is too large")
	}
	return index, nil
}

// refer notes what a manifest refers to. One that cannot be read refers to nothing.
func (l *Layout) refer(d bundle.Digest) {
	raw, err := l.Manifest(context.Background(), d, bundle.MaxOCIManifest)
	if err != nil {
		return
	}
	m, err := bundle.ParseOCIManifest(raw)
	if err != nil || m.Subject == nil {
		return
	}
	l.referrers[m.Subject.Digest] = append(l.referrers[m.Subject.Digest], d)
}

// Has reports whether the archive names that content. It may still be another.
func (l *Layout) Has(d bundle.Digest) bool { _, ok := l.blobs[d]; return ok }

// Manifest returns a manifest of at most max bytes.
func (l *Layout) Manifest(ctx context.Context, d bundle.Digest, max int64) ([]byte, error) {
	return l.bytes(ctx, bundle.OCIDescriptor{Digest: d, Size: -1}, max)
}

// Blob returns a blob of exactly the descriptor's size, which may not be over max.
func (l *Layout) Blob(ctx context.Context, d bundle.OCIDescriptor, max int64) ([]byte, error) {
	return l.bytes(ctx, d, max)
}

// Referrers lists the manifests that say they refer to d.
func (l *Layout) Referrers(_ context.Context, d bundle.Digest) ([]bundle.Digest, error) {
	list := l.referrers[d]
	if len(list) > maxReferrers {
		return nil, fmt.Errorf("referrers of %s: %w: %d, at most %d", d, ErrLayout, len(list), maxReferrers)
	}
	return list, nil
}

// BlobTo copies a blob into a file, from its start, and leaves the file at its start.
func (l *Layout) BlobTo(ctx context.Context, d bundle.OCIDescriptor, max int64, f *os.File) error {
	return l.BlobThrough(ctx, d, max, f, func() io.Writer { return io.Discard })
}

// BlobThrough is BlobTo for who also wants the bytes as they come.
func (l *Layout) BlobThrough(ctx context.Context, d bundle.OCIDescriptor, max int64, f *os.File, through func() io.Writer) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	if err := l.copy(ctx, d, max, io.MultiWriter(io.NewOffsetWriter(f, 0), through())); err != nil {
		return err
	}
	_, err := f.Seek(0, io.SeekStart)
	return err
}

func (l *Layout) bytes(ctx context.Context, d bundle.OCIDescriptor, max int64) ([]byte, error) {
	b := new(strings.Builder)
	err := l.copy(ctx, d, max, b)
	return []byte(b.String()), err
}

// copy hashes a blob on its way. Its bytes count only if copy returns no error.
func (l *Layout) copy(ctx context.Context, d bundle.OCIDescriptor, max int64, w io.Writer) error {
	at, ok := l.blobs[d.Digest]
	switch {
	case !ok:
		return fmt.Errorf("%s: %w", d.Digest, ErrNotFound)
	case at.size > max || d.Size >= 0 && at.size != d.Size:
		return fmt.Errorf("%s: %w: %d bytes", d.Digest, ErrLength, at.size)
	}
	h := sha256.New()
	r := &cancellable{ctx, io.NewSectionReader(l.r, at.off, at.size)}
	n, err := io.Copy(io.MultiWriter(w, h), r)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", d.Digest, err)
	case n != at.size:
		return fmt.Errorf("%s: %w: it ends after %d bytes", d.Digest, ErrLength, n)
	case bundle.Digest(h.Sum(nil)) != d.Digest:
		return fmt.Errorf("%s: %w: it is %s", d.Digest, ErrDigest, bundle.Digest(h.Sum(nil)))
	}
	return nil
}

// cancellable ends a read when the context ends.
type cancellable struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancellable) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(b)
}
