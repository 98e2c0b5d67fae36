package agentloader

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"

	"omega/agentloader/bundle"
	"omega/agentloader/flatten"
	"omega/internal/strictjson"
)

// candidate is a checked bundle whose image is still to come.
type candidate struct {
	loader  *Loader
	repo    source
	checked *bundle.Checked
	image   image
	files   []File
	keys    map[string][]byte // of encrypted layers, by their ids
	held    []string          // in the store
}

// hold keeps a file of the store for this candidate.
func (c *candidate) hold(name string) {
	c.loader.store.hold(name)
	c.held = append(c.held, name)
}

// image is what the sandbox needs of an OCI image.
type image struct {
	path string
	env  map[string]string
	dir  string
}

// imageConfig is an OCI image configuration (image-spec 1.1, config.md), of which little is used.
type imageConfig struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Config       struct {
		Env        []string `json:"Env"`
		WorkingDir string   `json:"WorkingDir"`
	} `json:"config"`
}

// Bounds of an image's configuration.
const (
	maxConfig = 256 << 10
	maxEnv    = 128
	maxWindow = 8 << 20 // of zstd, which its users must offer (RFC 8878, 3.1.1.1.2)
)

// The layer types that are read (image-spec 1.1, layer.md).
const (
	layerTar  = "application/vnd.oci.image.layer.v1.tar"
	layerGzip = layerTar + "+gzip"
	layerZstd = layerTar + "+zstd"
)

// readImage pulls the image and flattens it.
func (c *candidate) readImage(ctx context.Context) error {
	raw, err := c.repo.Manifest(ctx, c.checked.Manifest.Image.Digest, c.checked.Manifest.Image.Size)
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	m, err := bundle.ParseOCIManifest(raw)
	if err != nil {
		return fmt.Errorf("image: %w: %w", bundle.ErrMalformed, err)
	}
	if err := c.readConfig(ctx, m.Config); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	// The name says what is inside, so a second instance finds it made.
	name := c.checked.Manifest.Image.Digest.Hex() + ".erofs"
	c.hold(name)
	c.image.path = c.loader.store.path(name)
	err = c.loader.store.make(name, func(out *os.File) error { return c.flatten(ctx, m.Layers, out) })
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	return nil
}

func (c *candidate) readConfig(ctx context.Context, d bundle.OCIDescriptor) error {
	raw, err := c.repo.Blob(ctx, d, maxConfig)
	if err != nil {
		return err
	}
	var cfg imageConfig
	if err := strictjson.Decode(raw, &cfg, strictjson.Limits{MaxBytes: maxConfig, AllowUnknown: true}); err != nil {
		return fmt.Errorf("%w: configuration: %w", bundle.ErrMalformed, err)
	}
	if cfg.OS != "linux" || cfg.Architecture != "amd64" {
		return fmt.Errorf("%w: it is for %.20q on %.20q", bundle.ErrMalformed, cfg.OS, cfg.Architecture)
	}
	c.image.dir = cfg.Config.WorkingDir
	if c.image.dir == "" {
		c.image.dir = "/"
	}
	if !path.IsAbs(c.image.dir) || path.Clean(c.image.dir) != c.image.dir {
		return fmt.Errorf("%w: working directory %.80q", bundle.ErrMalformed, c.image.dir)
	}
	if len(cfg.Config.Env) > maxEnv {
		return fmt.Errorf("%w: %d environment variables", bundle.ErrMalformed, len(cfg.Config.Env))
	}
	c.image.env = map[string]string{}
	for _, e := range cfg.Config.Env {
		k, v, ok := strings.Cut(e, "=")
		if !ok || k == "" || strings.ContainsRune(e, 0) {
			return fmt.Errorf("%w: environment variable %.80q", bundle.ErrMalformed, e)
		}
		c.image.env[k] = v
	}
	return nil
}

// flatten pulls layer after layer and writes the EROFS image.
func (c *candidate) flatten(ctx context.Context, layers []bundle.OCIDescriptor, out *os.File) error {
	cfg := c.loader.cfg
	f, err := flatten.New(cfg.Dir, cfg.Bounds.flatten())
	if err != nil {
		return err
	}
	defer f.Close()
	left := cfg.Bounds.Pulled
	for i, d := range layers {
		if err := c.addLayer(ctx, f, d, left); err != nil {
			return fmt.Errorf("layer %d of %d: %w", i+1, len(layers), err)
		}
		left -= d.Size
	}
	return f.Finish(out, flatten.File{Path: ".omega/shim", Data: cfg.Shim, Mode: 0o755})
}

// addLayer pulls a layer whole, so that its digest is checked before its first byte is parsed.
func (c *candidate) addLayer(ctx context.Context, f *flatten.Flattener, d bundle.OCIDescriptor, left int64) error {
	if d.Size <= left { // else the pull says what is wrong
		if err := c.loader.store.room(d.Size); err != nil {
			return err
		}
	}
	tmp, err := os.CreateTemp(c.loader.cfg.Dir, "layer-*")
	if err != nil {
		return err
	}
	defer tmp.Close()
	if err := os.Remove(tmp.Name()); err != nil {
		return err
	}
	if err := c.repo.BlobTo(ctx, d, left, tmp); err != nil {
		return err
	}
	plain, mediaType, err := c.opened(ctx, d, tmp)
	if err != nil {
		return err
	}
	r, err := unpack(mediaType, plain)
	if err != nil {
		return err
	}
	err = f.AddLayer(&cancellable{ctx, r})
	if err = errors.Join(err, r.Close()); err != nil {
		return err
	}
	// A tar may end before its file does, and the end of an encrypted layer says whether it is what it was.
	_, err = io.Copy(io.Discard, plain)
	return err
}

// unpack returns a layer's tar.
func unpack(mediaType string, r io.Reader) (io.ReadCloser, error) {
	r = bufio.NewReaderSize(r, 1<<18)
	switch mediaType {
	case layerTar:
		return io.NopCloser(r), nil
	case layerGzip:
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("%w: gzip: %w", bundle.ErrMalformed, err)
		}
		return z, nil
	case layerZstd:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, fmt.Errorf("%w: zstd: %w", bundle.ErrMalformed, err)
		}
		return z.IOReadCloser(), nil
	}
	return nil, fmt.Errorf("%w: layer of type %.80q", bundle.ErrMalformed, mediaType)
}

// cancellable ends a read when the context ends.
type cancellable struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancellable) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}
