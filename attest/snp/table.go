package snp

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// GUIDs of the certificate table, in the order of their text (GHCB
// specification, AMD publication 56421, "SNP Extended Guest Request").
var (
	guidVCEK = [16]byte{0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd}
	guidVLEK = [16]byte{0xa8, 0x07, 0x4b, 0xc2, 0xa2, 0x5a, 0x48, 0x3e, 0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0, 0xb8, 0xa1}
	guidASK  = [16]byte{0x4a, 0xb7, 0xb3, 0x79, 0xbb, 0xac, 0x4f, 0xe4, 0xa0, 0x2f, 0x05, 0xae, 0xf3, 0x27, 0xc7, 0x82}
	guidARK  = [16]byte{0xc0, 0xb4, 0x06, 0xa4, 0xa8, 0x03, 0x49, 0x52, 0x97, 0x43, 0x3f, 0xb6, 0x01, 0x4c, 0xd0, 0xae}
)

const (
	maxTable   = 64 << 10
	maxEntries = 16
	entrySize  = 16 + 4 + 4
)

// Table is the certificate table that the host passes along with a report. Its
// bytes are the host's: they prove nothing until the chain is verified.
type Table struct{ VCEK, VLEK, ASK, ARK []byte }

// ParseTable reads a certificate table; an empty one has no entries. Entries
// of other kinds are skipped.
func ParseTable(b []byte) (*Table, error) {
	t := &Table{}
	if len(b) == 0 {
		return t, nil
	}
	if len(b) > maxTable {
		return nil, fmt.Errorf("certificate table of %d bytes", len(b))
	}
	for i := range maxEntries {
		if len(b) < (i+1)*entrySize {
			return nil, errors.New("certificate table has no end")
		}
		e := b[i*entrySize:]
		id, offset, size := [16]byte(e), binary.LittleEndian.Uint32(e[16:]), binary.LittleEndian.Uint32(e[20:])
		if id == ([16]byte{}) && offset == 0 && size == 0 {
			return t, nil
		}
		if uint64(offset)+uint64(size) > uint64(len(b)) {
			return nil, fmt.Errorf("certificate table entry %d is out of bounds", i)
		}
		if err := t.set(id, b[offset:offset+size]); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("certificate table of more than %d entries", maxEntries)
}

func (t *Table) set(id [16]byte, cert []byte) error {
	field, ok := t.fields()[id]
	if !ok {
		return nil
	}
	if *field != nil {
		return fmt.Errorf("certificate table has %x twice", id)
	}
	*field = cert
	return nil
}

func (t *Table) fields() map[[16]byte]*[]byte {
	return map[[16]byte]*[]byte{guidVCEK: &t.VCEK, guidVLEK: &t.VLEK, guidASK: &t.ASK, guidARK: &t.ARK}
}

// Marshal writes the table: entries, a zero entry, certificates.
func (t *Table) Marshal() []byte {
	entries := []struct {
		id   [16]byte
		cert []byte
	}{{guidVCEK, t.VCEK}, {guidVLEK, t.VLEK}, {guidASK, t.ASK}, {guidARK, t.ARK}}
	offset := entrySize
	for _, e := range entries {
		if len(e.cert) > 0 {
			offset += entrySize
		}
	}
	var head, body []byte
	for _, e := range entries {
		if len(e.cert) == 0 {
			continue
		}
		head = append(head, e.id[:]...)
		head = binary.LittleEndian.AppendUint32(head, uint32(offset+len(body)))
		head = binary.LittleEndian.AppendUint32(head, uint32(len(e.cert)))
		body = append(body, e.cert...)
	}
	return append(append(head, make([]byte, entrySize)...), body...)
}
