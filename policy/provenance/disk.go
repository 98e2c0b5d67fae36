package provenance

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// ErrRecord reports bytes on a log disk that are not a whole record.
var ErrRecord = errors.New("no whole record")

// A log disk holds records from its first byte on, each: magic (4), kind u8,
// length u32, offset u64 (all big-endian), payload, CRC-32C of all before it.
// The checksum finds torn writes; against the host only the tree protects. The
// offset keeps a stale record from being read at another place.
const (
	// RecordMagic begins every record, and so every log disk.
	RecordMagic  = "OPL1"
	recordHead   = 4 + 1 + 4 + 8
	recordTail   = 4
	maxRecordLen = MaxLeaf
)

// The kinds of records.
const (
	RecordOrigin     = 1 // a boot's log begins; the payload is its origin
	RecordLeaf       = 2
	RecordCheckpoint = 3 // covers every leaf since the origin
)

// A Record is one piece of a log disk.
type Record struct {
	Kind    byte
	Payload []byte
}

// AppendRecord adds a record that will stand at offset of the disk.
func AppendRecord(b []byte, offset uint64, r Record) ([]byte, error) {
	if len(r.Payload) > maxRecordLen {
		return nil, fmt.Errorf("%w: payload of %d bytes", ErrRecord, len(r.Payload))
	}
	begin := len(b)
	b = append(b, RecordMagic...)
	b = append(b, r.Kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Payload)))
	b = binary.BigEndian.AppendUint64(b, offset)
	b = append(b, r.Payload...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[begin:], crc32.MakeTable(crc32.Castagnoli))), nil
}

// ParseRecord reads the record at the beginning of b, which stands at offset of
// the disk, and says how long it is. ErrRecord means that the log ends here.
func ParseRecord(b []byte, offset uint64) (r Record, size int, err error) {
	if len(b) < recordHead+recordTail || string(b[:4]) != RecordMagic {
		return Record{}, 0, ErrRecord
	}
	length := binary.BigEndian.Uint32(b[5:])
	if length > maxRecordLen || int(length) > len(b)-recordHead-recordTail {
		return Record{}, 0, fmt.Errorf("%w: length %d", ErrRecord, length)
	}
	if binary.BigEndian.Uint64(b[9:]) != offset {
		return Record{}, 0, fmt.Errorf("%w: it belongs to another offset", ErrRecord)
	}
	end := recordHead + int(length)
	sum := crc32.Checksum(b[:end], crc32.MakeTable(crc32.Castagnoli))
	if binary.BigEndian.Uint32(b[end:]) != sum {
		return Record{}, 0, fmt.Errorf("%w: checksum", ErrRecord)
	}
	r = Record{Kind: b[4], Payload: b[recordHead:end:end]}
	if r.Kind < RecordOrigin || r.Kind > RecordCheckpoint {
		return Record{}, 0, fmt.Errorf("%w: kind %d", ErrRecord, r.Kind)
	}
	return r, end + recordTail, nil
}

// MaxRecord is the longest record, for readers that fill a buffer.
const MaxRecord = recordHead + maxRecordLen + recordTail
