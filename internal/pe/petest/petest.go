// Package petest makes small PE images for tests. They have every header that
// a loader reads, and no code.
package petest

import "encoding/binary"

// A Section is a section's name and what it holds.
type Section struct {
	Name    string
	Content []byte
}

// Where Image puts its headers.
const (
	HeaderAt      = 0x80 // "PE\0\0"
	OptionalAt    = HeaderAt + 24
	CheckSumAt    = OptionalAt + 64
	CertificateAt = OptionalAt + 112 + 4*8
	TableAt       = OptionalAt + 112 + 16*8
	SizeOfHeaders = 0x600
)

// Image returns a PE image with page-aligned sections and room in its headers
// for more of them, as the stub of systemd has.
func Image(sections ...Section) []byte {
	b := make([]byte, SizeOfHeaders)
	put16 := func(at int, v uint16) { binary.LittleEndian.PutUint16(b[at:], v) }
	put32 := func(at int, v uint32) { binary.LittleEndian.PutUint32(b[at:], v) }
	copy(b, "MZ")
	put32(0x3c, HeaderAt)
	copy(b[HeaderAt:], "PE\x00\x00")
	put16(HeaderAt+4, 0x8664) // x86-64
	put16(HeaderAt+6, uint16(len(sections)))
	put32(HeaderAt+8, 0x5eadbeef)          // TimeDateStamp
	put16(HeaderAt+20, TableAt-OptionalAt) // SizeOfOptionalHeader
	put16(HeaderAt+22, 0x22)               // executable, more than 2 GiB
	put16(OptionalAt, 0x20b)
	put32(OptionalAt+32, 4096) // SectionAlignment
	put32(OptionalAt+36, 512)  // FileAlignment
	put32(OptionalAt+60, SizeOfHeaders)
	put32(CheckSumAt, 0x1234)
	put32(OptionalAt+108, 16)
	address := 4096
	for i, s := range sections {
		h := TableAt + 40*i
		copy(b[h:h+8], s.Name)
		put32(h+8, uint32(len(s.Content)))
		put32(h+12, uint32(address))
		put32(h+16, uint32(up(len(s.Content), 512)))
		put32(h+20, uint32(len(b)))
		b = append(b, s.Content...)
		b = append(b, make([]byte, up(len(b), 512)-len(b))...)
		address += up(max(1, len(s.Content)), 4096)
	}
	put32(OptionalAt+56, uint32(address)) // SizeOfImage
	return b
}

func up(n, to int) int { return (n + to - 1) / to * to }
