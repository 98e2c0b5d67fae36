// Package pe reads the headers of 64-bit PE images, the format of EFI programs.
// It takes them from anyone, bounds everything, and loads or runs nothing.
package pe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Where things are in a PE32+ image (Microsoft PE format, "COFF File Header"
// and "Optional Header").
const (
	newHeaderAt  = 0x3c // in the DOS header: where "PE\0\0" is
	coffSize     = 4 + 20
	SectionSize  = 40 // of one header in the section table
	magicPE32    = 0x20b
	fixedSize    = 112 // of the optional header without the data directories
	checkSumAt   = 64  // in the optional header
	countAt      = 108
	certificates = 4 // index of the certificate table among the data directories

	maxSections = 96 // what loaders accept
)

// An Image is the headers of a PE image over its bytes.
type Image struct {
	Raw      []byte
	COFF     int // offset of the COFF header, behind "PE\0\0"
	Optional int // offset of the optional header
	CheckSum int // offset of the field that holds the checksum
	// Certificates is the offset of the certificate table's directory entry,
	// or 0 where the image has none.
	Certificates     int
	CertificateSize  uint32
	Table            int // offset of the section table
	SectionAlignment uint32
	FileAlignment    uint32
	SizeOfImage      uint32
	SizeOfHeaders    uint32
	Sections         []Section
}

// A Section is one entry of the section table, in the file format's own words.
type Section struct {
	Name             string
	VirtualSize      uint32
	VirtualAddress   uint32
	SizeOfRawData    uint32
	PointerToRawData uint32
}

// Parse reads the headers of b.
func Parse(b []byte) (*Image, error) {
	if len(b) < newHeaderAt+4 || b[0] != 'M' || b[1] != 'Z' {
		return nil, errors.New("PE image: no DOS header")
	}
	at := int64(binary.LittleEndian.Uint32(b[newHeaderAt:]))
	if at+coffSize+fixedSize > int64(len(b)) || string(b[at:at+4]) != "PE\x00\x00" {
		return nil, errors.New("PE image: no PE header")
	}
	i := &Image{Raw: b, COFF: int(at) + 4, Optional: int(at) + coffSize}
	optional := b[i.Optional:]
	size := int(binary.LittleEndian.Uint16(b[i.COFF+16:]))
	if binary.LittleEndian.Uint16(optional) != magicPE32 || size < fixedSize || size > len(optional) {
		return nil, errors.New("PE image: not a 64-bit image")
	}
	optional = optional[:size]
	i.CheckSum = i.Optional + checkSumAt
	i.SectionAlignment = binary.LittleEndian.Uint32(optional[32:])
	i.FileAlignment = binary.LittleEndian.Uint32(optional[36:])
	i.SizeOfImage = binary.LittleEndian.Uint32(optional[56:])
	i.SizeOfHeaders = binary.LittleEndian.Uint32(optional[60:])
	count := binary.LittleEndian.Uint32(optional[countAt:])
	if uint64(count)*8+fixedSize > uint64(size) {
		return nil, fmt.Errorf("PE image: %d data directories do not fit", count)
	}
	if count > certificates {
		i.Certificates = i.Optional + fixedSize + 8*certificates
		i.CertificateSize = binary.LittleEndian.Uint32(b[i.Certificates+4:])
	}
	i.Table = i.Optional + size
	return i, i.sections()
}

// sections reads the section table.
func (i *Image) sections() error {
	n := int(binary.LittleEndian.Uint16(i.Raw[i.COFF+2:]))
	end := i.Table + n*SectionSize
	switch {
	case n > maxSections:
		return fmt.Errorf("PE image: %d sections", n)
	case int64(i.SizeOfHeaders) > int64(len(i.Raw)) || end > int(i.SizeOfHeaders):
		return errors.New("PE image: headers do not fit")
	case int64(i.CertificateSize) > int64(len(i.Raw))-int64(i.SizeOfHeaders):
		return errors.New("PE image: certificates do not fit")
	}
	for h := i.Raw[i.Table:end]; len(h) > 0; h = h[SectionSize:] {
		s := Section{
			Name:             strings.TrimRight(string(h[:8]), "\x00"),
			VirtualSize:      binary.LittleEndian.Uint32(h[8:]),
			VirtualAddress:   binary.LittleEndian.Uint32(h[12:]),
			SizeOfRawData:    binary.LittleEndian.Uint32(h[16:]),
			PointerToRawData: binary.LittleEndian.Uint32(h[20:]),
		}
		if s.SizeOfRawData > 0 && int64(s.PointerToRawData)+int64(s.SizeOfRawData) > int64(len(i.Raw)) {
			return fmt.Errorf("PE image: section %q is cut off", s.Name)
		}
		i.Sections = append(i.Sections, s)
	}
	return nil
}

// Content returns what the section called name holds in memory, or nil where
// there is none. Two of one name, and memory that the file does not fill, are
// refused: loaders disagree about them.
func (i *Image) Content(name string) ([]byte, error) {
	var out []byte
	for _, s := range i.Sections {
		switch {
		case s.Name != name:
			continue
		case out != nil:
			return nil, fmt.Errorf("PE image: section %q is there twice", name)
		case s.VirtualSize == 0 || s.VirtualSize > s.SizeOfRawData:
			return nil, fmt.Errorf("PE image: section %q has %d bytes in memory and %d in the file", name, s.VirtualSize, s.SizeOfRawData)
		}
		out = i.Raw[s.PointerToRawData:][:s.VirtualSize:s.VirtualSize]
	}
	return out, nil
}
