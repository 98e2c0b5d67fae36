package images

import "encoding/binary"

// vhdFooter is the last sector of a fixed VHD with size bytes in front of it
// (Microsoft, "Virtual Hard Disk Image Format Specification", 1.0, "Hard Disk
// Footer Format"). It tells no time and no machine.
func vhdFooter(size int64) []byte {
	b := make([]byte, sectorSize)
	put16 := func(at int, v uint16) { binary.BigEndian.PutUint16(b[at:], v) }
	put32 := func(at int, v uint32) { binary.BigEndian.PutUint32(b[at:], v) }
	put64 := func(at int, v uint64) { binary.BigEndian.PutUint64(b[at:], v) }
	copy(b, "conectix")
	put32(8, 2)           // features: the bit that is always set
	put32(12, 0x10000)    // version 1.0
	put64(16, ^uint64(0)) // no dynamic header
	put32(24, 0)          // seconds since the year 2000
	// Readers take the size of the disk from the geometry, which is rounded,
	// unless they know that the creator counts bytes. This one does.
	copy(b[28:], "qem2")
	put32(32, 0x50003)
	copy(b[36:], "Wi2k")
	put64(40, uint64(size)) // original size
	put64(48, uint64(size)) // current size
	cylinders, heads, sectors := geometry(size / sectorSize)
	put16(56, cylinders)
	b[58], b[59] = heads, sectors
	put32(60, 2) // a fixed disk
	copy(b[68:], "omega-disk-v1\x00\x00\x00")
	var sum uint32
	for _, c := range b {
		sum += uint32(c)
	}
	put32(64, ^sum)
	return b
}

// geometry is the specification's own calculation ("CHS Calculation").
func geometry(total int64) (cylinders uint16, heads, sectors uint8) {
	total = min(total, 65535*16*255)
	if total >= 65535*16*63 {
		return uint16(total / 255 / 16), 16, 255
	}
	perTrack := int64(17)
	tracks := total / perTrack
	n := max((tracks+1023)/1024, 4)
	if tracks >= n*1024 || n > 16 {
		perTrack, n = 31, 16
		tracks = total / perTrack
	}
	if tracks >= n*1024 {
		perTrack, n = 63, 16
		tracks = total / perTrack
	}
	return uint16(tracks / n), uint8(n), uint8(perTrack)
}
