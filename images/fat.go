package images

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Numbers of the FAT32 file system (Microsoft, "FAT32 File System
// Specification", 1.03). Tools differ in what they call FAT32 near its smallest
// number of clusters, so ours stays well above it.
const (
	fatReserved    = 32    // sectors in front of the first table
	fatCopies      = 2     // tables
	fatMinClusters = 70000 // the specification's own bound is 65525
	fatEnd         = 0x0fffffff
	fatMedia       = 0x0ffffff8 // first entry of the table: a fixed disk
	fatVolumeID    = 0x6f6d6567
	fatDirectory   = 0x10 // attributes
	fatLabel       = 0x08
	fatFile        = 0x20
	fatDate        = 0x0021 // 1 January 1980, the first day there is
	fatSmall       = 512    // bytes in a cluster
	fatLarge       = 4096   // the same, of what is larger than 256 MiB
)

// A fat is a FAT32 file system with one file, EFI/BOOT/BOOTX64.EFI. Directories
// take one cluster each and the file those behind them, in one piece.
type fat struct {
	program  []byte
	cluster  int64 // bytes in one
	clusters int64 // how many there are
	table    int64 // sectors in one table
	size     int64 // of all, a multiple of a MiB
}

// Clusters of the directories; the numbers 0 and 1 are no clusters.
const (
	rootCluster = 2
	efiCluster  = 3
	bootCluster = 4
	fileCluster = 5
)

func newFAT(program []byte) (*fat, error) {
	if len(program) == 0 || int64(len(program)) > 0xffffffff {
		return nil, fmt.Errorf("disk: a program of %d bytes", len(program))
	}
	f := &fat{program: program, cluster: fatSmall}
	if len(program) > 256*mebibyte {
		f.cluster = fatLarge
	}
	need := max(f.fileClusters()+fileCluster+1, fatMinClusters)
	perCluster := f.cluster / sectorSize
	// What the tables need depends on the clusters, and those on what is left:
	// the size comes from one, and the rest of the last MiB becomes clusters.
	tables := func(clusters int64) int64 { return ((clusters+2)*4 + sectorSize - 1) / sectorSize }
	f.size = ((fatReserved+fatCopies*tables(need)+need*perCluster)*sectorSize + mebibyte - 1) / mebibyte * mebibyte
	f.table = tables(f.size / f.cluster)
	f.clusters = (f.size/sectorSize - fatReserved - fatCopies*f.table) / perCluster
	if f.clusters < f.fileClusters()+fileCluster-2 {
		return nil, errors.New("disk: the program does not fit")
	}
	return f, nil
}

func (f *fat) fileClusters() int64 { return (int64(len(f.program)) + f.cluster - 1) / f.cluster }

// extents are the parts of the file system that are not zero.
func (f *fat) extents() []extent {
	boot, info, table := f.bootSector(), f.infoSector(), f.allocation()
	first := int64(fatReserved * sectorSize)
	list := []extent{
		{0, boot}, {sectorSize, info},
		{6 * sectorSize, boot}, {7 * sectorSize, info}, // their copies
		{first, table}, {first + f.table*sectorSize, table},
	}
	root := append(fatEntry("OMEGA      ", fatLabel, 0, 0), fatEntry("EFI        ", fatDirectory, efiCluster, 0)...)
	for _, c := range []struct {
		cluster int64
		data    []byte
	}{
		{rootCluster, root},
		// The parent of a directory in the root is cluster 0.
		{efiCluster, directoryOf(efiCluster, 0, fatEntry("BOOT       ", fatDirectory, bootCluster, 0))},
		{bootCluster, directoryOf(bootCluster, efiCluster, fatEntry("BOOTX64 EFI", fatFile, fileCluster, uint32(len(f.program))))},
		{fileCluster, f.program},
	} {
		list = append(list, extent{first + fatCopies*f.table*sectorSize + (c.cluster-2)*f.cluster, c.data})
	}
	return list
}

func (f *fat) bootSector() []byte {
	b := make([]byte, sectorSize)
	put16 := func(at int, v uint16) { binary.LittleEndian.PutUint16(b[at:], v) }
	put32 := func(at int, v uint32) { binary.LittleEndian.PutUint32(b[at:], v) }
	copy(b, "\xeb\x58\x90OMEGA   ") // a jump, and who formatted it
	put16(11, sectorSize)
	b[13] = byte(f.cluster / sectorSize)
	put16(14, fatReserved)
	b[16] = fatCopies
	b[21] = 0xf8  // media: a fixed disk
	put16(24, 63) // sectors and heads of a BIOS that nobody asks
	put16(26, 255)
	put32(28, partitionAt/sectorSize)
	put32(32, uint32(f.size/sectorSize))
	put32(36, uint32(f.table))
	put32(44, rootCluster)
	put16(48, 1) // the information sector
	put16(50, 6) // the copy of this one
	b[64] = 0x80 // drive
	b[66] = 0x29 // the next three fields are there
	put32(67, fatVolumeID)
	copy(b[71:], "OMEGA      FAT32   ")
	b[510], b[511] = 0x55, 0xaa
	return b
}

// infoSector says how many clusters are free and where they begin.
func (f *fat) infoSector() []byte {
	b := make([]byte, sectorSize)
	used := f.fileClusters() + fileCluster - 2
	copy(b, "RRaA")
	copy(b[484:], "rrAa")
	binary.LittleEndian.PutUint32(b[488:], uint32(f.clusters-used))
	binary.LittleEndian.PutUint32(b[492:], uint32(used+2))
	b[510], b[511] = 0x55, 0xaa
	return b
}

// allocation is the table up to the last entry in use: each cluster names the
// next one.
func (f *fat) allocation() []byte {
	last := fileCluster + f.fileClusters() - 1
	b := make([]byte, 4*(last+1))
	put := func(cluster int64, v uint32) { binary.LittleEndian.PutUint32(b[4*cluster:], v) }
	put(0, fatMedia)
	for _, c := range []int64{1, rootCluster, efiCluster, bootCluster, last} {
		put(c, fatEnd)
	}
	for c := int64(fileCluster); c < last; c++ {
		put(c, uint32(c+1))
	}
	return b
}

// directoryOf is a directory's cluster: itself, its parent, and what it holds.
func directoryOf(own, parent uint32, rest []byte) []byte {
	b := append(fatEntry(".          ", fatDirectory, own, 0), fatEntry("..         ", fatDirectory, parent, 0)...)
	return append(b, rest...)
}

// fatEntry is one directory entry. Its times are the first there are.
func fatEntry(name string, attributes byte, cluster, size uint32) []byte {
	b := make([]byte, 32)
	copy(b, name)
	b[11] = attributes
	binary.LittleEndian.PutUint16(b[20:], uint16(cluster>>16))
	for _, at := range []int{16, 18, 24} { // created, read, written
		binary.LittleEndian.PutUint16(b[at:], fatDate)
	}
	binary.LittleEndian.PutUint16(b[26:], uint16(cluster))
	binary.LittleEndian.PutUint32(b[28:], size)
	return b
}
