package provenance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// A Source serves a log's files by their path. What it does not have is
// fs.ErrNotExist.
type Source interface {
	Read(ctx context.Context, path string) ([]byte, error)
}

// SourceFunc makes a function a Source.
type SourceFunc func(ctx context.Context, path string) ([]byte, error)

// Read calls f.
func (f SourceFunc) Read(ctx context.Context, path string) ([]byte, error) { return f(ctx, path) }

// MaxFile bounds one file of a log: a bundle of the largest leaves.
const MaxFile = TileWidth * (2 + MaxLeaf)

// Dir is a Source over an exported log.
func Dir(files fs.FS) Source {
	return SourceFunc(func(ctx context.Context, path string) ([]byte, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f, err := files.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
		if err == nil && len(b) > MaxFile {
			return nil, fmt.Errorf("%w: %s is larger than a tile can be", ErrTampered, path)
		}
		return b, err
	})
}

// readTile reads a tile, or the full tile that has replaced a partial one
// (C2SP tlog-tiles, "Partial Tiles").
func readTile(ctx context.Context, src Source, t Tile) ([]byte, error) {
	b, err := src.Read(ctx, t.Path())
	if err == nil || t.Width == TileWidth || !errors.Is(err, fs.ErrNotExist) {
		return b, missing(t, err)
	}
	full := Tile{Level: t.Level, N: t.N, Width: TileWidth}
	if b, err = src.Read(ctx, full.Path()); err != nil {
		return nil, missing(t, err)
	}
	return cut(b, t)
}

func missing(t Tile, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s is missing", ErrTampered, t.Path())
	}
	return err
}

// cut takes the beginning that a partial tile would hold from a full one.
func cut(b []byte, t Tile) ([]byte, error) {
	if t.Level >= 0 {
		return b[:min(len(b), t.Width*hashSize)], nil
	}
	leaves, err := ParseBundle(b, TileWidth)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTampered, err)
	}
	var out []byte
	for _, leaf := range leaves[:t.Width] {
		if out, err = AppendBundle(out, leaf); err != nil {
			return nil, err
		}
	}
	return out, nil
}
