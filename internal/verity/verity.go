// Package verity computes dm-verity hash trees (Linux, Documentation/admin-guide/device-mapper/verity.rst)
// over raw files, in the one form that Omega uses: hash version 1, SHA-256, blocks of 4096 bytes for data
// and tree, no salt, no superblock, the tree directly behind the data.
//
// There is no salt so that a file has one root wherever it is made. It only makes trees: the kernel is
// what checks blocks against them.
package verity

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

const (
	// BlockSize is that of data and tree, in bytes.
	BlockSize = 4096
	// MaxSize bounds a file: 1 TiB, far below what the tree's form could take.
	MaxSize = 1 << 40
	// perBlock is how many hashes one block of the tree holds.
	perBlock = BlockSize / sha256.Size
)

// ErrSize reports a file without bytes, or with more than MaxSize.
var ErrSize = errors.New("size is outside of what a verity tree is made for")

// Hasher computes the tree over what is written to it. Its memory is one block for each level, unless the
// tree itself is wanted.
type Hasher struct {
	size   int64
	block  []byte   // of data, not full
	levels []*level // the lowest first
	keep   bool
}

// level is one level of the tree: the block that is being filled, and the full ones before it.
type level struct {
	block []byte
	count int64 // hashes so far
	full  []byte
}

// New returns a Hasher that computes the root alone.
func New() *Hasher { return &Hasher{} }

// Write takes the next bytes of the file. It never fails.
func (h *Hasher) Write(p []byte) (int, error) {
	n := len(p)
	h.size += int64(n)
	for len(p) > 0 {
		if len(h.block) == 0 && len(p) >= BlockSize {
			h.add(0, sha256.Sum256(p[:BlockSize]))
			p = p[BlockSize:]
			continue
		}
		take := min(BlockSize-len(h.block), len(p))
		h.block = append(h.block, p[:take]...)
		p = p[take:]
		if len(h.block) == BlockSize {
			h.add(0, sha256.Sum256(h.block))
			h.block = h.block[:0]
		}
	}
	return n, nil
}

// add puts a hash into level n.
func (h *Hasher) add(n int, sum [sha256.Size]byte) {
	if n == len(h.levels) {
		h.levels = append(h.levels, &level{block: make([]byte, 0, BlockSize)})
	}
	l := h.levels[n]
	if len(l.block) == BlockSize { // only now is it clear that this level has more than one block
		h.close(n)
	}
	l.block = append(l.block, sum[:]...)
	l.count++
}

// close hashes the block of level n into the level above it.
func (h *Hasher) close(n int) {
	l := h.levels[n]
	padded := append(l.block, make([]byte, BlockSize-len(l.block))...)
	if h.keep {
		l.full = append(l.full, padded...)
	}
	h.add(n+1, sha256.Sum256(padded))
	l.block = l.block[:0]
}

// Size is the number of bytes written so far.
func (h *Hasher) Size() int64 { return h.size }

// Root ends the file and returns the root hash. Nothing may be written after it.
func (h *Hasher) Root() ([sha256.Size]byte, error) {
	if h.size <= 0 || h.size > MaxSize {
		return [sha256.Size]byte{}, fmt.Errorf("%w: %d bytes", ErrSize, h.size)
	}
	if len(h.block) > 0 {
		h.add(0, sha256.Sum256(append(h.block, make([]byte, BlockSize-len(h.block))...)))
		h.block = nil
	}
	for n := 0; n < len(h.levels)-1; n++ {
		h.close(n)
	}
	// What is left on top is the hash of the only block of the level below: the root. A level with more
	// than one hash is closed once more.
	for h.levels[len(h.levels)-1].count > 1 {
		h.close(len(h.levels) - 1)
	}
	return [sha256.Size]byte(h.levels[len(h.levels)-1].block), nil
}

// Append reads a file of size bytes, and returns its root and what stands behind it on a disk: zeros up
// to the next block, then the tree with its highest level first.
func Append(r io.Reader, size int64) (root [sha256.Size]byte, tail []byte, err error) {
	if size <= 0 || size > MaxSize {
		return root, nil, fmt.Errorf("%w: %d bytes", ErrSize, size)
	}
	h := &Hasher{keep: true}
	if _, err := io.CopyN(h, r, size); err != nil {
		return root, nil, fmt.Errorf("reading the file: %w", err)
	}
	if root, err = h.Root(); err != nil {
		return root, nil, err
	}
	tail = make([]byte, DataBlocks(size)*BlockSize-size)
	for n := len(h.levels) - 2; n >= 0; n-- {
		tail = append(tail, h.levels[n].full...)
	}
	return root, tail, nil
}

// DataBlocks is the number of blocks of a file of that size.
func DataBlocks(size int64) int64 { return (size + BlockSize - 1) / BlockSize }

// DiskBlocks is the number of blocks of a file of that size with its tree.
func DiskBlocks(size int64) int64 {
	blocks := DataBlocks(size)
	total := blocks
	for blocks > 1 {
		blocks = (blocks + perBlock - 1) / perBlock
		total += blocks
	}
	return total
}

// RootBlock is the block of the disk whose hash is the root: the tree's highest, or that of a file that is
// one block alone.
func RootBlock(size int64) int64 {
	if n := DataBlocks(size); n > 1 {
		return n
	}
	return 0
}
