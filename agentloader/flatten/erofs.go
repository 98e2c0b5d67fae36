package flatten

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
)

// The on-disk format (Linux, fs/erofs/erofs_fs.h). Only what is written here: extended inodes, plain
// file contents, and directories and links beside their inodes where they fit into a block. File
// contents are never put beside an inode: the sentry cannot map such files, and programs that run
// from them die of SIGBUS.
const (
	block       = 4096
	blockBits   = 12
	superOffset = 1024
	superSize   = 128
	superMagic  = 0xE0F5E1E2
	inodeSize   = 64
	slotSize    = 32 // an inode's number is its place in units of this
	direntSize  = 12

	layoutPlain  = 0
	layoutInline = 2

	typeRegular   = 1
	typeDirectory = 2
	typeSymlink   = 7

	modeRegular   = 0o100000
	modeDirectory = 0o040000
	modeSymlink   = 0o120000
)

// An inode is a node with its place in the image. Hard links are one inode.
type inode struct {
	*node
	nid    uint64
	parent *inode
	names  []string // of a directory, sorted
	kids   map[string]*inode
	links  uint32
	size   int64
	inline bool
	start  uint32 // first block of the contents
}

// plan gives every inode its number, in a fixed order.
type plan struct {
	inodes []*inode
	shared map[*extent]*inode
	meta   int64 // bytes of the inode area
}

// writeErofs writes the tree as an EROFS image: super block, contents, inodes.
func writeErofs(out io.WriteSeeker, root *node, spool *os.File) error {
	p := &plan{shared: map[*extent]*inode{}}
	p.add(root, nil)
	for _, i := range p.inodes {
		p.place(i)
	}
	w := &blockWriter{w: bufio.NewWriterSize(out, 1<<18)}
	w.write(make([]byte, block))
	for _, i := range p.inodes {
		if !i.inline && i.size > 0 {
			i.start = w.block()
			w.copy(i.contents(spool), i.size)
		}
	}
	metaBlock := w.block()
	w.write(p.inodeArea())
	if err := w.flush(); err != nil {
		return err
	}
	if _, err := out.Seek(superOffset, io.SeekStart); err != nil {
		return err
	}
	_, err := out.Write(p.superBlock(metaBlock, w.block()))
	return err
}

// add collects n and what is below it, depth first.
func (p *plan) add(n *node, parent *inode) *inode {
	if n.kind == regular && p.shared[n.data] != nil {
		i := p.shared[n.data]
		i.links++
		return i
	}
	i := &inode{node: n, parent: parent, links: 1}
	p.inodes = append(p.inodes, i)
	switch n.kind {
	case regular:
		i.size = n.data.size
		p.shared[n.data] = i
	case symlink:
		i.size = int64(len(n.target))
	case directory:
		if parent == nil {
			i.parent = i
		}
		i.links, i.kids = 2, map[string]*inode{}
		i.names = append(slices.Sorted(maps.Keys(n.children)), ".", "..")
		slices.Sort(i.names)
		for _, name := range i.names {
			if c := n.children[name]; c != nil {
				i.kids[name] = p.add(c, i)
				if c.isDir() {
					i.links++
				}
			}
		}
		i.size = direntBytes(i.names)
	}
	return i
}

// place numbers i. Neither an inode nor what stands beside it may cross a block.
func (p *plan) place(i *inode) {
	i.inline = i.kind != regular && inodeSize+i.size <= block
	need := int64(inodeSize)
	if i.inline {
		need += i.size
	}
	if p.meta%block+need > block {
		p.meta = roundUp(p.meta, block)
	}
	i.nid = uint64(p.meta / slotSize)
	p.meta = roundUp(p.meta+need, slotSize)
}

// contents returns a reader of what belongs to i.
func (i *inode) contents(spool *os.File) io.Reader {
	switch i.kind {
	case regular:
		return io.NewSectionReader(spool, i.data.off, i.data.size)
	case symlink:
		return bytes.NewReader([]byte(i.target))
	}
	return bytes.NewReader(i.dirents())
}

// direntBlocks cuts sorted names into groups that fill a block each, and calls f with each group.
func direntBlocks(names []string, f func(group []string, size int64)) {
	for len(names) > 0 {
		n, size := 0, int64(0)
		for n < len(names) && size+direntSize+int64(len(names[n])) <= block {
			size += direntSize + int64(len(names[n]))
			n++
		}
		f(names[:n], size)
		names = names[n:]
	}
}

// direntBytes is the size of a directory: whole blocks, then the last one's bytes.
func direntBytes(names []string) int64 {
	var total int64
	direntBlocks(names, func(_ []string, size int64) { total = roundUp(total, block) + size })
	return total
}

// dirents writes a directory: in each block the entries, then their names.
func (i *inode) dirents() []byte {
	var out []byte
	direntBlocks(i.names, func(group []string, _ int64) {
		out = append(out, make([]byte, roundUp(int64(len(out)), block)-int64(len(out)))...)
		at := len(group) * direntSize
		for _, name := range group {
			to, kind := i.entry(name)
			out = binary.LittleEndian.AppendUint64(out, to.nid)
			out = binary.LittleEndian.AppendUint16(out, uint16(at))
			out = append(out, kind, 0)
			at += len(name)
		}
		for _, name := range group {
			out = append(out, name...)
		}
	})
	return out
}

func (i *inode) entry(name string) (*inode, byte) {
	switch name {
	case ".":
		return i, typeDirectory
	case "..":
		return i.parent, typeDirectory
	}
	to := i.kids[name]
	return to, map[kind]byte{regular: typeRegular, directory: typeDirectory, symlink: typeSymlink}[to.kind]
}

// inodeArea writes all inodes and what stands beside them.
func (p *plan) inodeArea() []byte {
	area := make([]byte, roundUp(p.meta, block))
	for number, i := range p.inodes {
		b := area[i.nid*slotSize:]
		le := binary.LittleEndian
		layout, kindMode := uint16(layoutPlain), map[kind]uint32{regular: modeRegular, directory: modeDirectory, symlink: modeSymlink}[i.kind]
		if i.inline {
			layout = layoutInline
			_, _ = io.ReadFull(i.contents(nil), b[inodeSize:inodeSize+i.size])
		}
		le.PutUint16(b[0:], layout<<1|1) // bit 0: extended
		le.PutUint16(b[4:], uint16(kindMode|i.mode))
		le.PutUint64(b[8:], uint64(i.size))
		le.PutUint32(b[16:], i.start)
		le.PutUint32(b[20:], uint32(number+1))
		le.PutUint32(b[24:], i.uid)
		le.PutUint32(b[28:], i.gid)
		le.PutUint64(b[32:], uint64(i.mtime))
		le.PutUint32(b[44:], i.links)
	}
	return area
}

func (p *plan) superBlock(metaBlock, blocks uint32) []byte {
	b := make([]byte, superSize)
	le := binary.LittleEndian
	le.PutUint32(b[0:], superMagic)
	b[12] = blockBits
	le.PutUint16(b[14:], uint16(p.inodes[0].nid))
	le.PutUint64(b[16:], uint64(len(p.inodes)))
	le.PutUint64(b[24:], stamp)
	le.PutUint32(b[36:], blocks)
	le.PutUint32(b[40:], metaBlock)
	return b
}

// blockWriter writes whole blocks and keeps the first error.
type blockWriter struct {
	w    *bufio.Writer
	size int64
	err  error
}

// block is the number of the next block.
func (w *blockWriter) block() uint32 { return uint32(w.size / block) }

func (w *blockWriter) write(b []byte) { w.copy(bytes.NewReader(b), int64(len(b))) }

func (w *blockWriter) copy(r io.Reader, size int64) {
	if w.err != nil {
		return
	}
	if _, err := io.CopyN(w.w, r, size); err != nil {
		w.err = fmt.Errorf("writing contents: %w", err)
		return
	}
	padded := roundUp(size, block)
	_, w.err = w.w.Write(make([]byte, padded-size))
	w.size += padded
}

func (w *blockWriter) flush() error {
	if w.err != nil {
		return w.err
	}
	return w.w.Flush()
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }
