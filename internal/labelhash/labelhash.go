// Package labelhash hashes several byte strings so that no two different
// lists, and no two uses, can give the same input: the word "omega", a label
// and every part are each written behind their length. It keeps no keys and is
// no MAC.
package labelhash

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"hash"
)

// Sum256 is the SHA-256 of label and parts.
func Sum256(label string, parts ...[]byte) [32]byte {
	return [32]byte(sum(sha256.New(), label, parts))
}

// Sum384 is the SHA-384 of label and parts.
func Sum384(label string, parts ...[]byte) [48]byte {
	return [48]byte(sum(sha512.New384(), label, parts))
}

// Sum512 is the SHA-512 of label and parts.
func Sum512(label string, parts ...[]byte) [64]byte {
	return [64]byte(sum(sha512.New(), label, parts))
}

func sum(h hash.Hash, label string, parts [][]byte) []byte {
	write(h, []byte("omega"))
	write(h, []byte(label))
	for _, p := range parts {
		write(h, p)
	}
	return h.Sum(nil)
}

// write never fails: a hash.Hash returns no errors.
func write(h hash.Hash, p []byte) {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(p)))
	h.Write(n[:])
	h.Write(p)
}
