package provenance

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrLeaf reports bytes that are not a leaf of this log.
var ErrLeaf = errors.New("leaf is malformed")

// Version 1 of a leaf begins: version u8, kind u8, epoch u64, seq u64, all big-endian.
const (
	leafVersion = 1
	leafHeader  = 1 // opens an epoch: its key, sealed for each auditor
	leafEntry   = 2 // one sealed entry

	// maxRecipients keeps an epoch header far below MaxLeaf.
	maxRecipients = 64
	// MaxLeaf is what the 16-bit length in a C2SP entry bundle can carry.
	MaxLeaf = 1<<16 - 1
)

// A Leaf is what the tree holds at one index: either the header of an epoch or
// an entry that only the epoch's recipients can read.
type Leaf struct {
	Epoch uint64
	Seq   uint64 // the leaf's index in the tree
	// Commitment is the salted hash of the entry, or the hash of the epoch's key.
	Commitment [32]byte
	Sealed     []byte // the AEAD's output; empty in a header

	Header     bool
	Recipients []Recipient // of a header
}

// A Recipient is one auditor's copy of an epoch's key.
type Recipient struct {
	Key    [32]byte // X25519 public key
	Enc    [32]byte // HPKE's encapsulated key (RFC 9180 section 4.1)
	Sealed [48]byte // the epoch key and the AEAD's 16-byte tag
}

// Marshal writes the leaf's bytes.
func (l *Leaf) Marshal() []byte {
	kind := byte(leafEntry)
	if l.Header {
		kind = leafHeader
	}
	b := []byte{leafVersion, kind}
	b = binary.BigEndian.AppendUint64(b, l.Epoch)
	b = binary.BigEndian.AppendUint64(b, l.Seq)
	b = append(b, l.Commitment[:]...)
	if !l.Header {
		b = binary.BigEndian.AppendUint32(b, uint32(len(l.Sealed)))
		return append(b, l.Sealed...)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(l.Recipients)))
	for _, r := range l.Recipients {
		b = append(b, r.Key[:]...)
		b = append(b, r.Enc[:]...)
		b = append(b, r.Sealed[:]...)
	}
	return b
}

// ParseLeaf reads what Marshal wrote; every other byte string is refused.
func ParseLeaf(b []byte) (*Leaf, error) {
	if len(b) > MaxLeaf {
		return nil, fmt.Errorf("%w: %d bytes", ErrLeaf, len(b))
	}
	r := reader{b: b}
	version, kind := r.take(1), r.take(1)
	l := &Leaf{Epoch: r.u64(), Seq: r.u64()}
	copy(l.Commitment[:], r.take(32))
	count := r.u32()
	if r.short {
		return nil, fmt.Errorf("%w: %d bytes are too few", ErrLeaf, len(b))
	}
	if version[0] != leafVersion {
		return nil, fmt.Errorf("%w: version %d", ErrLeaf, version[0])
	}
	switch kind[0] {
	case leafEntry:
		l.Sealed = append([]byte(nil), r.take(int(count))...)
	case leafHeader:
		l.Header = true
		if err := l.readRecipients(&r, count); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("%w: kind %d", ErrLeaf, kind[0])
	}
	if r.short || len(r.b) != 0 {
		return nil, fmt.Errorf("%w: its lengths do not add up", ErrLeaf)
	}
	return l, nil
}

func (l *Leaf) readRecipients(r *reader, count uint32) error {
	if count > maxRecipients {
		return fmt.Errorf("%w: %d recipients", ErrLeaf, count)
	}
	for range count {
		var one Recipient
		copy(one.Key[:], r.take(len(one.Key)))
		copy(one.Enc[:], r.take(len(one.Enc)))
		copy(one.Sealed[:], r.take(len(one.Sealed)))
		l.Recipients = append(l.Recipients, one)
	}
	return nil
}

// A reader takes fixed pieces off a byte string. After the first piece that is
// not there, short stays true and every piece is empty.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if r.short || n < 0 || n > len(r.b) {
		r.short = true
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) u64() uint64 {
	p := r.take(8)
	if p == nil {
		return 0
	}
	return binary.BigEndian.Uint64(p)
}

func (r *reader) u32() uint32 {
	p := r.take(4)
	if p == nil {
		return 0
	}
	return binary.BigEndian.Uint32(p)
}
