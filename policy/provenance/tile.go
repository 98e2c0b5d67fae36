package provenance

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// ErrTile reports a path or content that is no tile.
var ErrTile = errors.New("tile is malformed")

const (
	// tileHeight and TileWidth are fixed by C2SP tlog-tiles.
	tileHeight = 8
	TileWidth  = 1 << tileHeight
	// entriesLevel is x/mod's level for the bundles of entries.
	entriesLevel = -1
	// maxTileLevel is where a tree of 2^63 leaves ends: levels 0 to 7.
	maxTileLevel = 7
)

// A Tile names up to 256 hashes of one level of the tree, or up to 256 leaves.
type Tile struct {
	Level int // -1 for leaves
	N     uint64
	Width int // 256 unless it is the last, partial one
}

// Path is the tile's place below the log's URL (C2SP tlog-tiles).
func (t Tile) Path() string {
	p := tlog.Tile{H: tileHeight, L: t.Level, N: int64(t.N), W: t.Width}.Path()
	rest := strings.TrimPrefix(p, "tile/8/")
	if t.Level == entriesLevel {
		rest = "entries" + strings.TrimPrefix(rest, "data")
	}
	return "tile/" + rest
}

// ParseTile reads a path that Path wrote.
func ParseTile(path string) (Tile, error) {
	rest, ok := strings.CutPrefix(path, "tile/")
	if !ok || len(path) > 128 {
		return Tile{}, fmt.Errorf("%w: path %.128q", ErrTile, path)
	}
	if after, ok := strings.CutPrefix(rest, "entries/"); ok {
		rest = "data/" + after
	}
	in, err := tlog.ParseTilePath("tile/8/" + rest)
	if err != nil || in.L > maxTileLevel || in.N < 0 {
		return Tile{}, fmt.Errorf("%w: path %q", ErrTile, path)
	}
	t := Tile{Level: in.L, N: uint64(in.N), Width: in.W}
	if t.Path() != path {
		return Tile{}, fmt.Errorf("%w: path %q", ErrTile, path)
	}
	return t, nil
}

// TilesOf lists every tile of a tree of size leaves: levels from the leaves up,
// the partial tile of a level last.
func TilesOf(size uint64) []Tile {
	var tiles []Tile
	add := func(level int, count uint64) {
		for n := range (count + TileWidth - 1) / TileWidth {
			tiles = append(tiles, Tile{Level: level, N: n, Width: int(min(TileWidth, count-n*TileWidth))})
		}
	}
	add(entriesLevel, size)
	for level := 0; size > 0; level++ {
		add(level, size)
		size /= TileWidth
	}
	return tiles
}

// AppendBundle adds one leaf to an entry bundle: its length in 16 bits and its bytes.
func AppendBundle(bundle, leaf []byte) ([]byte, error) {
	if len(leaf) > MaxLeaf {
		return nil, fmt.Errorf("%w: %d bytes", ErrLeaf, len(leaf))
	}
	bundle = binary.BigEndian.AppendUint16(bundle, uint16(len(leaf)))
	return append(bundle, leaf...), nil
}

// Bundle is the entry bundle t of a log with these leaves.
func Bundle(leaves [][]byte, t Tile) ([]byte, error) {
	count := uint64(len(leaves))
	if t.N > count/TileWidth || t.Width < 1 || t.N*TileWidth+uint64(t.Width) > count {
		return nil, fmt.Errorf("%w: %s lies beyond the log", ErrTile, t.Path())
	}
	var out []byte
	var err error
	for _, leaf := range leaves[t.N*TileWidth:][:t.Width] {
		if out, err = AppendBundle(out, leaf); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// ParseBundle splits an entry bundle into exactly width leaves.
func ParseBundle(b []byte, width int) ([][]byte, error) {
	if width < 1 || width > TileWidth {
		return nil, fmt.Errorf("%w: bundle of %d leaves", ErrTile, width)
	}
	leaves := make([][]byte, 0, width)
	for range width {
		if len(b) < 2 {
			return nil, fmt.Errorf("%w: bundle ends after %d of %d leaves", ErrTile, len(leaves), width)
		}
		n := int(binary.BigEndian.Uint16(b))
		if len(b) < 2+n {
			return nil, fmt.Errorf("%w: leaf %d of a bundle is cut off", ErrTile, len(leaves))
		}
		leaves = append(leaves, b[2:2+n])
		b = b[2+n:]
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%w: %d bytes follow the last leaf of a bundle", ErrTile, len(b))
	}
	return leaves, nil
}
