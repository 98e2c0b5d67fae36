package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"omega/agentloader/bundle"
	"omega/internal/verity"
)

// runBundleFile is `omega bundle model`, `adapter` and `data`: it pushes one raw file as a component.
func runBundleFile(kind string) func(context.Context, *env, []string) error {
	return func(ctx context.Context, e *env, args []string) error {
		fs := e.flags("bundle")
		file := fs.String("file", "", "the file, as the agent will read it")
		as := fs.String("name", "", "its name; the agent finds it under /models, /adapters or /data")
		base := fs.String("base", "", "an adapter's: the digest of the model that it is for")
		to := fs.String("to", "", "repository: HOST/NAME")
		plain := fs.Bool("plain-http", false, "speak HTTP to a registry that is not on this machine")
		if err := fs.Parse(args); err != nil {
			return err
		}
		if err := need(fs, "file", "name", "to"); err != nil {
			return err
		}
		c := bundle.FileConfig{Kind: kind, Name: *as}
		if *base != "" {
			d, err := bundle.ParseDigest(*base)
			if err != nil {
				return err
			}
			c.Base = &d
		}
		repo, err := parseRepo(*to, *plain)
		if err != nil {
			return err
		}
		p := e.progress("pushing " + *file)
		defer p.Done()
		ref, f, err := pushFile(ctx, repo, c, *file)
		if err != nil {
			return err
		}
		fmt.Fprintln(e.Stdout, ref)
		line, err := json.Marshal(f)
		if err != nil {
			return err
		}
		e.sayf("for agent.json: %s", line)
		return nil
	}
}

// pushFile pushes a file and the artifact that its principal is to sign, and returns how an agent manifest
// names it.
func pushFile(ctx context.Context, repo name.Repository, c bundle.FileConfig, path string) (bundleRef, bundle.File, error) {
	layer, tree, err := readFileLayer(path)
	if err != nil {
		return bundleRef{}, bundle.File{}, err
	}
	c.Size = layer.size
	if c.Root, err = tree.Root(); err != nil {
		return bundleRef{}, bundle.File{}, fmt.Errorf("%s: %w", path, err)
	}
	m, config, err := bundle.FileArtifact(c, layer.digest)
	if err != nil {
		return bundleRef{}, bundle.File{}, err
	}
	if err := remote.WriteLayer(repo, layer, remoteOptions(ctx)...); err != nil {
		return bundleRef{}, bundle.File{}, fmt.Errorf("pushing to %s: %w", repo, err)
	}
	if err := pushBlob(ctx, repo, config); err != nil {
		return bundleRef{}, bundle.File{}, err
	}
	d, err := pushManifest(ctx, repo, m)
	return bundleRef{repo, d.Digest}, bundle.File{Name: c.Name, Digest: d.Digest, Size: c.Size, Root: c.Root}, err
}

// fileLayer is a file as a blob. It is read once for its digest, and again when it is pushed.
type fileLayer struct {
	path   string
	digest bundle.Digest
	size   int64
}

func readFileLayer(path string) (*fileLayer, *verity.Hasher, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	sum, tree := sha256.New(), verity.New()
	n, err := io.Copy(io.MultiWriter(sum, tree), f)
	return &fileLayer{path, bundle.Digest(sum.Sum(nil)), n}, tree, err
}

// Digest implements v1.Layer, as the following do.
func (l *fileLayer) Digest() (v1.Hash, error) {
	return v1.Hash{Algorithm: "sha256", Hex: l.digest.Hex()}, nil
}

// DiffID is the same: nothing is compressed.
func (l *fileLayer) DiffID() (v1.Hash, error) { return l.Digest() }

// Compressed returns the file.
func (l *fileLayer) Compressed() (io.ReadCloser, error) { return os.Open(l.path) }

// Uncompressed returns the file.
func (l *fileLayer) Uncompressed() (io.ReadCloser, error) { return os.Open(l.path) }

// Size is the file's.
func (l *fileLayer) Size() (int64, error) { return l.size, nil }

// MediaType is that of a raw file.
func (l *fileLayer) MediaType() (types.MediaType, error) { return bundle.TypeFile, nil }

// completeFiles fills in what agent.json may leave out of a file that it names by digest.
func completeFiles(ctx context.Context, repo name.Repository, m *bundle.Manifest) error {
	var files []*bundle.File
	if m.Model != nil {
		files = append(files, m.Model)
	}
	for _, list := range [][]bundle.File{m.Adapters, m.Data} {
		for i := range list {
			files = append(files, &list[i])
		}
	}
	for _, f := range files {
		if f.Name != "" && f.Size != 0 && !f.Root.IsZero() {
			continue
		}
		c, _, err := bundle.ReadFileArtifact(ctx, remoteSource{repo}, f.Digest)
		if err != nil {
			return err
		}
		f.Name, f.Size, f.Root = c.Name, c.Size, c.Root
	}
	return nil
}

// runBundleDisk writes a file and its verity tree as a disk for `omega boot --disk`.
func runBundleDisk(_ context.Context, e *env, args []string) error {
	fs := e.flags("bundle")
	file := fs.String("file", "", "the file")
	out := fs.String("out", "", "the disk, raw")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := need(fs, "file", "out"); err != nil {
		return err
	}
	p := e.progress("writing " + *out)
	defer p.Done()
	root, err := writeDisk(*file, *out)
	if err != nil {
		return err
	}
	fmt.Fprintln(e.Stdout, bundle.Digest(root))
	return nil
}

// writeDisk copies the file and appends its tree.
func writeDisk(file, out string) (root [32]byte, err error) {
	in, err := os.Open(file)
	if err != nil {
		return root, err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return root, err
	}
	disk, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return root, err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	root, tail, err := verity.Append(io.TeeReader(in, disk), info.Size())
	if err != nil {
		return root, fmt.Errorf("%s: %w", file, err)
	}
	_, err = disk.Write(tail)
	return root, err
}
