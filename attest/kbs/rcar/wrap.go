package rcar

import (
	"crypto/aes"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
)

// wrapIV is what a valid wrapped key begins with (RFC 3394 section 2.2.3.1).
const wrapIV = 0xa6a6a6a6a6a6a6a6

// unwrap fills dst with the key that is wrapped under kek (RFC 3394 section
// 2.2.2); dst stays zero where that is not valid.
func unwrap(dst, kek, wrapped []byte) error {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return fmt.Errorf("key-encryption key: %w", err)
	}
	if len(wrapped) != len(dst)+8 || len(dst)%8 != 0 {
		return fmt.Errorf("wrapped key of %d bytes", len(wrapped))
	}
	n := len(dst) / 8
	var b [aes.BlockSize]byte
	defer clear(b[:])
	copy(b[:8], wrapped)
	copy(dst, wrapped[8:])
	for j := 5; j >= 0; j-- {
		for i := n; i > 0; i-- {
			t := binary.BigEndian.Uint64(b[:8]) ^ uint64(n*j+i)
			binary.BigEndian.PutUint64(b[:8], t)
			copy(b[8:], dst[8*(i-1):8*i])
			block.Decrypt(b[:], b[:])
			copy(dst[8*(i-1):8*i], b[8:])
		}
	}
	want := binary.BigEndian.AppendUint64(nil, wrapIV)
	if subtle.ConstantTimeCompare(want, b[:8]) != 1 {
		clear(dst)
		return errors.New("wrapped key is not for this platform, or was changed")
	}
	return nil
}
