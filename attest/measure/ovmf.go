package measure

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Bounds of a firmware image. OVMF is 4 MiB and describes well under 1 MiB.
const (
	maxFirmware = 64 << 20
	maxSections = 64
	maxBlank    = 16 << 20
)

// GUIDs of OVMF's footer table, in the mixed-endian form of UEFI
// (OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm).
var (
	guidFooter    = guid("96b582de-1fb2-45f7-baea-a366c55a082d")
	guidHashTable = guid("7255371f-3a3b-4b04-927b-1da6efa8d454")
	guidResetAP   = guid("00f771de-1a7e-4fcb-890e-68c77e2fb44e")
	guidMetadata  = guid("dc886566-984a-4798-a75e-5585a7bf67cc")
)

// sectionType is a type of OVMF's SEV metadata
// (OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm).
type sectionType uint32

const (
	sectionMemory       sectionType = 1
	sectionSecrets      sectionType = 2
	sectionCPUID        sectionType = 3
	sectionCAA          sectionType = 4
	sectionKernelHashes sectionType = 0x10
)

type section struct {
	gpa, size uint64
	kind      sectionType
}

// firmware is what the launch digest needs to know of an OVMF image.
type firmware struct {
	image     []byte
	resetAP   uint32
	hashTable uint32 // GPA of the SEV hashes table, 0 without one
	sections  []section
}

// base is the GPA of the image, which ends at 4 GiB.
func (f *firmware) base() uint64 { return 1<<32 - uint64(len(f.image)) }

func (f *firmware) has(kind sectionType) bool {
	for _, s := range f.sections {
		if s.kind == kind {
			return true
		}
	}
	return false
}

func parseFirmware(image []byte) (*firmware, error) {
	if len(image) == 0 || len(image) > maxFirmware || len(image)%pageSize != 0 {
		return nil, fmt.Errorf("firmware of %d bytes: not whole pages up to %d bytes", len(image), maxFirmware)
	}
	table, err := footerTable(image)
	if err != nil {
		return nil, fmt.Errorf("firmware footer: %w", err)
	}
	f := &firmware{image: image}
	if f.resetAP, err = footerWord(table, guidResetAP, 4); err != nil {
		return nil, fmt.Errorf("firmware reset vector: %w", err)
	}
	if _, ok := table[guidHashTable]; ok {
		// The entry is the table's GPA and its size (OvmfPkg, SEV hash table block).
		if f.hashTable, err = footerWord(table, guidHashTable, 8); err != nil {
			return nil, fmt.Errorf("firmware hash table: %w", err)
		}
	}
	offset, err := footerWord(table, guidMetadata, 4)
	if err != nil {
		return nil, fmt.Errorf("firmware metadata: %w", err)
	}
	if f.sections, err = parseMetadata(image, offset); err != nil {
		return nil, fmt.Errorf("firmware metadata: %w", err)
	}
	return f, nil
}

// footerTable reads the table that grows downwards from 32 bytes before the
// image's end. An entry is its data, u16 length of the whole entry, GUID.
func footerTable(image []byte) (map[[16]byte][]byte, error) {
	const head = 2 + 16
	end := len(image) - 32
	if !bytes.Equal(image[end-16:end], guidFooter[:]) {
		return nil, errors.New("no footer GUID")
	}
	total := int(binary.LittleEndian.Uint16(image[end-head:]))
	if total < head || total > end {
		return nil, fmt.Errorf("table of %d bytes", total)
	}
	rest := image[end-total : end-head]
	table := map[[16]byte][]byte{}
	for len(rest) > 0 {
		if len(rest) < head {
			return nil, fmt.Errorf("%d bytes before the first entry", len(rest))
		}
		id := [16]byte(rest[len(rest)-16:])
		n := int(binary.LittleEndian.Uint16(rest[len(rest)-head:]))
		if n < head || n > len(rest) {
			return nil, fmt.Errorf("entry of %d bytes", n)
		}
		if _, dup := table[id]; dup {
			return nil, fmt.Errorf("entry %x twice", id)
		}
		table[id] = rest[len(rest)-n : len(rest)-head]
		rest = rest[:len(rest)-n]
	}
	return table, nil
}

func footerWord(table map[[16]byte][]byte, id [16]byte, size int) (uint32, error) {
	data, ok := table[id]
	if !ok {
		return 0, errors.New("not in the footer table")
	}
	if len(data) != size {
		return 0, fmt.Errorf("footer entry of %d bytes, want %d", len(data), size)
	}
	return binary.LittleEndian.Uint32(data), nil
}

// parseMetadata reads the SEV metadata: "ASEV", u32 size, version 1, count,
// then count times u32 GPA, size, type. offset counts from the image's end.
func parseMetadata(image []byte, offset uint32) ([]section, error) {
	const head, item = 16, 12
	if uint64(offset) > uint64(len(image)) || offset < head {
		return nil, fmt.Errorf("offset %#x", offset)
	}
	b := image[len(image)-int(offset):]
	le := binary.LittleEndian
	size, version, count := le.Uint32(b[4:]), le.Uint32(b[8:]), le.Uint32(b[12:])
	if string(b[:4]) != "ASEV" || version != 1 {
		return nil, fmt.Errorf("header %q version %d", b[:4], version)
	}
	if count > maxSections || size != head+item*count || uint64(size) > uint64(len(b)) {
		return nil, fmt.Errorf("%d sections in %d bytes", count, size)
	}
	out := make([]section, count)
	var blank uint64
	for i := range out {
		d := b[head+item*i:]
		out[i] = section{uint64(le.Uint32(d)), uint64(le.Uint32(d[4:])), sectionType(le.Uint32(d[8:]))}
		if err := out[i].check(); err != nil {
			return nil, fmt.Errorf("section %d: %w", i, err)
		}
		if blank += out[i].size; blank > maxBlank {
			return nil, fmt.Errorf("sections of more than %d bytes", maxBlank)
		}
	}
	return out, nil
}

func (s section) check() error {
	if s.gpa%pageSize != 0 || s.size%pageSize != 0 || s.size == 0 {
		return fmt.Errorf("GPA %#x size %#x: not whole pages", s.gpa, s.size)
	}
	switch s.kind {
	case sectionMemory, sectionCAA:
		return nil
	case sectionSecrets, sectionCPUID, sectionKernelHashes:
		if s.size != pageSize {
			return fmt.Errorf("type %#x of %#x bytes, want one page", s.kind, s.size)
		}
		return nil
	}
	return fmt.Errorf("unknown type %#x", s.kind)
}
