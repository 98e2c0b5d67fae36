package attest

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// Bytes16 is 16 bytes, written in lower-case hex.
type Bytes16 [16]byte

// Bytes32 is 32 bytes, written in lower-case hex.
type Bytes32 [32]byte

// Bytes48 is 48 bytes, written in lower-case hex.
type Bytes48 [48]byte

// String is b in hex.
func (b Bytes16) String() string { return hex.EncodeToString(b[:]) }

// String is b in hex.
func (b Bytes32) String() string { return hex.EncodeToString(b[:]) }

// String is b in hex.
func (b Bytes48) String() string { return hex.EncodeToString(b[:]) }

// IsZero reports whether all bytes are zero. It is asked so often of a large
// evidence that comparing with the zero value would show.
func (b Bytes32) IsZero() bool {
	le := binary.LittleEndian
	return le.Uint64(b[0:])|le.Uint64(b[8:])|le.Uint64(b[16:])|le.Uint64(b[24:]) == 0
}

// MarshalText writes b in hex.
func (b Bytes16) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, b[:]), nil }

// MarshalText writes b in hex.
func (b Bytes32) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, b[:]), nil }

// MarshalText writes b in hex.
func (b Bytes48) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, b[:]), nil }

// UnmarshalText reads exactly 32 lower-case hex digits.
func (b *Bytes16) UnmarshalText(text []byte) error { return unhex(b[:], text) }

// UnmarshalText reads exactly 64 lower-case hex digits.
func (b *Bytes32) UnmarshalText(text []byte) error { return unhex(b[:], text) }

// UnmarshalText reads exactly 96 lower-case hex digits.
func (b *Bytes48) UnmarshalText(text []byte) error { return unhex(b[:], text) }

// unhex fills dst. One value has one spelling, so upper case is refused.
func unhex(dst, text []byte) error {
	if len(text) != 2*len(dst) {
		return fmt.Errorf("hex: %d digits, want %d", len(text), 2*len(dst))
	}
	for _, c := range text {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("hex: digit %q", c)
		}
	}
	_, err := hex.Decode(dst, text)
	return err
}

// Bytes64 is 64 bytes, written in lower-case hex.
type Bytes64 [64]byte

// String is b in hex.
func (b Bytes64) String() string { return hex.EncodeToString(b[:]) }

// MarshalText writes b in hex.
func (b Bytes64) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, b[:]), nil }

// UnmarshalText reads exactly 128 lower-case hex digits.
func (b *Bytes64) UnmarshalText(text []byte) error { return unhex(b[:], text) }
