package images

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// Sizes of a disk image's parts, in bytes.
const (
	mebibyte     = 1 << 20
	sectorSize   = 512
	partitionAt  = mebibyte // where the only partition begins
	gptEntries   = 128
	gptEntrySize = 128
	gptTable     = gptEntries * gptEntrySize
	maxDisk      = 64 << 30
)

// Identities on the disk. They are the same on every one: nothing of a disk
// may depend on when, where or by whom it was written.
var (
	espType  = guid{0xc12a7328, 0xf81f, 0x11d2, [8]byte{0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}} // UEFI 2.10, table 5.7
	diskGUID = guid{0x6f6d6567, 0x6100, 0x4000, [8]byte{0x80, 0x00, 'o', 'm', 'e', 'g', 'a', 1}}
	espGUID  = guid{0x6f6d6567, 0x6100, 0x4000, [8]byte{0x80, 0x00, 'o', 'm', 'e', 'g', 'a', 2}}
)

// A guid is an identity as UEFI writes it: three little-endian numbers and
// eight bytes (UEFI 2.10, appendix A).
type guid struct {
	a    uint32
	b, c uint16
	d    [8]byte
}

// A Disk is a disk image: a few extents of bytes, and zeros everywhere else.
type Disk struct {
	Size    int64
	extents []extent // in order, apart from one another
}

type extent struct {
	at   int64
	data []byte
}

// NewDisk returns a disk that firmware boots program from: a GPT with one EFI
// system partition, which holds EFI/BOOT/BOOTX64.EFI and nothing else. Its size
// is the smallest multiple of unit, itself a multiple of a MiB.
func NewDisk(program []byte, unit int64) (*Disk, error) {
	if unit < mebibyte || unit%mebibyte != 0 {
		return nil, fmt.Errorf("disk: size in units of %d bytes", unit)
	}
	fs, err := newFAT(program)
	if err != nil {
		return nil, err
	}
	// One MiB in front of the partition and one behind hold the two GPTs.
	size := (partitionAt + fs.size + mebibyte + unit - 1) / unit * unit
	if size > maxDisk {
		return nil, fmt.Errorf("disk: %d bytes are more than %d", size, int64(maxDisk))
	}
	d := &Disk{Size: size}
	d.add(0, protectiveMBR(size))
	table := partitionTable(fs.size)
	last := size/sectorSize - 1
	d.add(sectorSize, gptHeader(1, last, 2, last, table))
	d.add(2*sectorSize, table)
	for _, x := range fs.extents() {
		d.add(partitionAt+x.at, x.data)
	}
	backup := last - gptTable/sectorSize
	d.add(backup*sectorSize, table)
	d.add(last*sectorSize, gptHeader(last, 1, backup, last, table))
	return d, nil
}

func (d *Disk) add(at int64, data []byte) { d.extents = append(d.extents, extent{at, data}) }

// Reader returns the bytes of d from the first to the last.
func (d *Disk) Reader() io.Reader {
	var parts []io.Reader
	var at int64
	for _, x := range d.extents {
		parts = append(parts, io.LimitReader(zeros{}, x.at-at), bytes.NewReader(x.data))
		at = x.at + int64(len(x.data))
	}
	return io.MultiReader(append(parts, io.LimitReader(zeros{}, d.Size-at))...)
}

// A sparse file takes bytes anywhere and is zero where it took none.
type sparse interface {
	io.WriterAt
	Truncate(size int64) error
}

// WriteSparse writes d to an empty file and leaves holes where d is zero.
func (d *Disk) WriteSparse(f sparse) error {
	for _, x := range d.extents {
		if _, err := f.WriteAt(x.data, x.at); err != nil {
			return err
		}
	}
	return f.Truncate(d.Size)
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// protectiveMBR keeps tools that know no GPT off the disk (UEFI 2.10, 5.2.3).
func protectiveMBR(size int64) []byte {
	b := make([]byte, sectorSize)
	e := b[446:]
	e[4] = 0xee                             // GPT protective
	copy(e[1:], []byte{0x00, 0x02, 0x00})   // first sector in CHS
	copy(e[5:], []byte{0xff, 0xff, 0xff})   // last sector: beyond CHS
	binary.LittleEndian.PutUint32(e[8:], 1) // first sector
	binary.LittleEndian.PutUint32(e[12:], uint32(min(size/sectorSize-1, 0xffffffff)))
	b[510], b[511] = 0x55, 0xaa
	return b
}

// partitionTable is the GPT partition entry array (UEFI 2.10, 5.3.3).
func partitionTable(size int64) []byte {
	b := make([]byte, gptTable)
	espType.put(b)
	espGUID.put(b[16:])
	binary.LittleEndian.PutUint64(b[32:], partitionAt/sectorSize)
	binary.LittleEndian.PutUint64(b[40:], uint64((partitionAt+size)/sectorSize-1))
	for i, c := range []byte("ESP") {
		b[56+2*i] = c // UTF-16
	}
	return b
}

// gptHeader is the GPT header at sector own, whose copy is at other and whose
// table is at table (UEFI 2.10, 5.3.2).
func gptHeader(own, other, tableAt, last int64, table []byte) []byte {
	const headerSize = 92
	b := make([]byte, sectorSize)
	copy(b, "EFI PART")
	put32 := func(at int, v uint32) { binary.LittleEndian.PutUint32(b[at:], v) }
	put64 := func(at int, v int64) { binary.LittleEndian.PutUint64(b[at:], uint64(v)) }
	put32(8, 0x10000) // revision 1.0
	put32(12, headerSize)
	put64(24, own)
	put64(32, other)
	put64(40, 2+gptTable/sectorSize)      // first usable sector
	put64(48, last-gptTable/sectorSize-1) // last usable sector
	diskGUID.put(b[56:])
	put64(72, tableAt)
	put32(80, gptEntries)
	put32(84, gptEntrySize)
	put32(88, crc32.ChecksumIEEE(table))
	put32(16, crc32.ChecksumIEEE(b[:headerSize]))
	return b
}

func (g guid) put(b []byte) {
	binary.LittleEndian.PutUint32(b, g.a)
	binary.LittleEndian.PutUint16(b[4:], g.b)
	binary.LittleEndian.PutUint16(b[6:], g.c)
	copy(b[8:16], g.d[:])
}
