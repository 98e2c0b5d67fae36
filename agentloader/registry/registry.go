// Package registry pulls from an OCI registry, by digest only.
//
// It believes nothing that a registry says: every byte is bounded before it is read and hashed before
// it is handed on, so plain HTTP to a mirror is as good as TLS. It resolves no names of images, and it
// does not read what it pulls.
package registry

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	"omega/agentloader/bundle"
)

// Config says where to pull from and how patient to be.
type Config struct {
	// Mirror is a URL of scheme and host that serves every repository. Empty means that each
	// repository names its own registry, which is reached by HTTPS.
	Mirror string
	// Idle bounds the wait for the next byte, Timeout one whole transfer, Tries the attempts.
	Idle, Timeout time.Duration
	Tries         int
	Backoff       time.Duration // before the second try; doubled for each further one
	// Roots verify registries' certificates; nil means the system's.
	Roots *x509.CertPool
	// Log, if given, gets the progress of long transfers.
	Log *slog.Logger
	// Dial maps "host:port" to the "ip:port" to reach it at, for machines without name service.
	Dial map[string]string
}

// Why a pull failed.
var (
	ErrUnavailable = errors.New("registry is not available")
	ErrNotFound    = errors.New("registry does not have it")
	ErrSlow        = errors.New("registry is too slow")
	ErrLength      = errors.New("registry sent another length than it should")
	ErrDigest      = errors.New("content does not match its digest")
)

// errRefused reports any other answer, such as 405 from a registry without the referrers API.
var errRefused = errors.New("registry refuses")

// Bounds of lists of referrers.
const (
	maxIndex     = 1 << 20
	maxReferrers = 64
)

// Client pulls from registries.
type Client struct {
	cfg    Config
	mirror *url.URL
}

// New checks the configuration and fills in the defaults.
func New(cfg Config) (*Client, error) {
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&cfg.Idle, 20 * time.Second}, {&cfg.Timeout, 5 * time.Minute}, {&cfg.Backoff, 250 * time.Millisecond}} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	if cfg.Tries <= 0 {
		cfg.Tries = 4
	}
	c := &Client{cfg: cfg}
	if cfg.Mirror == "" {
		return c, nil
	}
	u, err := url.Parse(cfg.Mirror)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("registry mirror %.80q is not a URL of scheme and host", cfg.Mirror)
	}
	c.mirror = u
	return c, nil
}

// Repository is one repository of a registry.
type Repository struct {
	cfg  Config
	base url.URL // up to and including the repository's name
	doer doer
}

// Manifest pulls a manifest of at most max bytes.
func (r *Repository) Manifest(ctx context.Context, d bundle.Digest, max int64) ([]byte, error) {
	return r.bytes(ctx, "manifests/"+d.String(), bundle.OCIDescriptor{Digest: d, Size: -1}, max)
}

// Blob pulls a blob of exactly the descriptor's size, which may not be over max.
func (r *Repository) Blob(ctx context.Context, d bundle.OCIDescriptor, max int64) ([]byte, error) {
	return r.bytes(ctx, "blobs/"+d.Digest.String(), d, max)
}

// BlobTo pulls a blob into a file, from its start, and leaves the file at its start.
func (r *Repository) BlobTo(ctx context.Context, d bundle.OCIDescriptor, max int64, f *os.File) error {
	return r.BlobThrough(ctx, d, max, f, func() io.Writer { return io.Discard })
}

// BlobThrough is BlobTo for who also wants the bytes as they come. Each try that begins anew asks for a
// new reader of them.
func (r *Repository) BlobThrough(ctx context.Context, d bundle.OCIDescriptor, max int64, f *os.File, through func() io.Writer) error {
	err := r.pull(ctx, "blobs/"+d.Digest.String(), d, max, func() (io.Writer, error) {
		if err := f.Truncate(0); err != nil {
			return nil, err
		}
		_, err := f.Seek(0, io.SeekStart)
		return io.MultiWriter(f, through()), err
	})
	if err != nil {
		return err
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}

func (r *Repository) bytes(ctx context.Context, path string, d bundle.OCIDescriptor, max int64) ([]byte, error) {
	b := new(bytes.Buffer)
	err := r.pull(ctx, path, d, max, func() (io.Writer, error) { b.Reset(); return b, nil })
	return b.Bytes(), err
}

// pull tries until the content is there, or it is clear that it will not be.
func (r *Repository) pull(ctx context.Context, path string, d bundle.OCIDescriptor, max int64, sink func() (io.Writer, error)) error {
	if d.Size > max {
		return fmt.Errorf("%s: %w: %d bytes, at most %d", path, ErrLength, d.Size, max)
	}
	t := &transfer{path: path, size: d.Size, max: max, sink: sink, log: r.cfg.Log}
	return r.retry(ctx, path, func(ctx context.Context) error {
		if err := r.get(ctx, t); err != nil {
			return err
		}
		if got := bundle.Digest(t.hash.Sum(nil)); got != d.Digest {
			return fmt.Errorf("%w: it is %s", ErrDigest, got)
		}
		return nil
	})
}

// Legacy returns what lies under the tag of d's signatures in cosign's older form, nil if nothing does. No
// digest vouches for it: its signatures do.
func (r *Repository) Legacy(ctx context.Context, d bundle.Digest) ([]byte, error) {
	b := new(bytes.Buffer)
	t := &transfer{path: "manifests/" + bundle.LegacyTag(d), size: -1, max: bundle.MaxOCIManifest, sink: func() (io.Writer, error) { b.Reset(); return b, nil }}
	err := r.retry(ctx, t.path, func(ctx context.Context) error { return r.get(ctx, t) })
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return b.Bytes(), err
}

// Referrers lists the manifests that say they refer to d. The list is only a hint: read the manifests.
func (r *Repository) Referrers(ctx context.Context, d bundle.Digest) ([]bundle.Digest, error) {
	b := new(bytes.Buffer)
	list := func(path string) error {
		t := &transfer{path: path, size: -1, max: maxIndex, sink: func() (io.Writer, error) { b.Reset(); return b, nil }}
		return r.retry(ctx, path, func(ctx context.Context) error { return r.get(ctx, t) })
	}
	err := list("referrers/" + d.String())
	if errors.Is(err, ErrNotFound) || errors.Is(err, errRefused) {
		// Registries without the referrers API keep the list under a tag (distribution-spec 1.1, referrers tag schema).
		err = list("manifests/sha256-" + d.Hex())
	}
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	index, err := bundle.ParseOCIIndex(b.Bytes(), maxIndex)
	if err != nil {
		return nil, fmt.Errorf("referrers of %s: %w", d, err)
	}
	if len(index.Manifests) > maxReferrers {
		return nil, fmt.Errorf("referrers of %s: %d, at most %d", d, len(index.Manifests), maxReferrers)
	}
	var out []bundle.Digest
	for _, m := range index.Manifests {
		out = append(out, m.Digest)
	}
	return out, nil
}
