package blockfile

import (
	"encoding/binary"

	"omega/internal/verity"
)

// fileName is the file's name in the image.
const fileName = "file"

// The on-disk format (Linux, fs/erofs/erofs_fs.h), as far as one folder with one file needs it.
const (
	superOffset  = 1024
	superMagic   = 0xE0F5E1E2
	blockBits    = 12
	deviceSlot   = 9 // in units of 128 bytes: behind the super block
	deviceSize   = 128
	metaBlock    = 1
	slot         = 32 // an inode's number is its place in units of this
	fileNID      = 4
	stamp        = 1577836800  // 2020-01-01
	incompatible = 1<<2 | 1<<3 // chunked files, device table
	layoutInline = 2
	layoutChunks = 4
	// oneChunk says that a chunk is as large as can be, 2^43 bytes, and that its index names a device.
	oneChunk = 31 | 1<<5
)

// imageOf is an EROFS image of a folder with one file of that size, whose contents begin at the first block of
// the first device beside the image.
func imageOf(size int64) []byte {
	b := make([]byte, 2*verity.BlockSize)
	le := binary.LittleEndian
	s := b[superOffset:]
	le.PutUint32(s[0:], superMagic)
	s[12] = blockBits
	le.PutUint16(s[14:], 0) // the root's number
	le.PutUint64(s[16:], 2) // inodes
	le.PutUint64(s[24:], stamp)
	le.PutUint32(s[36:], 2) // blocks
	le.PutUint32(s[40:], metaBlock)
	le.PutUint32(s[80:], incompatible)
	le.PutUint16(s[86:], 1) // devices beside this one
	le.PutUint16(s[88:], deviceSlot)
	d := b[deviceSlot*deviceSize:]
	d[0] = 'v' // a tag that is not empty
	le.PutUint32(d[64:], uint32(verity.DataBlocks(size)))

	meta := b[metaBlock*verity.BlockSize:]
	names := []struct {
		name string
		nid  uint64
		kind byte
	}{{".", 0, 2}, {"..", 0, 2}, {fileName, fileNID, 1}}
	const direntSize = 12
	var dirents, text []byte
	for _, n := range names {
		dirents = le.AppendUint64(dirents, n.nid)
		dirents = le.AppendUint16(dirents, uint16(direntSize*len(names)+len(text)))
		dirents = append(dirents, n.kind, 0)
		text = append(text, n.name...)
	}
	dirents = append(dirents, text...)
	inode(meta, layoutInline, 0o040755, int64(len(dirents)), 2)
	copy(meta[64:], dirents)
	f := meta[fileNID*slot:]
	inode(f, layoutChunks, 0o100444, size, 1)
	le.PutUint32(f[16:], oneChunk)
	le.PutUint16(f[64+2:], 1) // the device; the block is zero
	return b
}

// inode writes an extended inode.
func inode(b []byte, layout, mode uint16, size int64, links uint32) {
	le := binary.LittleEndian
	le.PutUint16(b[0:], layout<<1|1) // bit 0: extended
	le.PutUint16(b[4:], mode)
	le.PutUint64(b[8:], uint64(size))
	le.PutUint32(b[20:], links)
	le.PutUint64(b[32:], stamp)
	le.PutUint32(b[44:], links)
}
