// Package labelhash hashes several byte strings so that no two different
// lists, and no two uses, can give the same input: the word "omega", a label
// and every part are each written behind their length. It keeps no keys and is
// no MAC.
package labelhash

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
)

// Sum256 is the SHA-256 of label and parts.
func Sum256(label string, parts ...[]byte) [32]byte {
	var room [1024]byte // most inputs fit, and then nothing is allocated
	return sha256.Sum256(input(room[:0], label, parts))
}

// Sum384 is the SHA-384 of label and parts.
func Sum384(label string, parts ...[]byte) [48]byte {
	return sha512.Sum384(input(nil, label, parts))
}

// Sum512 is the SHA-512 of label and parts.
func Sum512(label string, parts ...[]byte) [64]byte {
	return sha512.Sum512(input(nil, label, parts))
}

// input is what is hashed: the word, the label and each part behind its length.
func input(b []byte, label string, parts [][]byte) []byte {
	b = append(part(b, len("omega")), "omega"...)
	b = append(part(b, len(label)), label...)
	for _, p := range parts {
		b = append(part(b, len(p)), p...)
	}
	return b
}

func part(b []byte, n int) []byte { return binary.BigEndian.AppendUint64(b, uint64(n)) }
