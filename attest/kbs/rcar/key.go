package rcar

import (
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
)

// Algorithms of RFC 7518 that are spoken.
const (
	keyAlgorithm     = "ECDH-ES+A256KW" // section 4.6
	contentAlgorithm = "A256GCM"        // section 5.3
	curve            = "P-256"          // section 6.2.1.1
	keyType          = "EC"             // section 6.1
)

// wrappedSize is a 256-bit key under AES key wrap (RFC 3394 section 2.2.1).
const wrappedSize = 40

// A Wrapped is a content key that a broker wrapped to a Key.
type Wrapped struct {
	Ephemeral [65]byte // SEC 1 uncompressed point
	Key       [wrappedSize]byte
}

// Key is the private key that one handshake's resources are wrapped to.
type Key struct{ private *ecdh.PrivateKey }

// NewKey makes a key.
func NewKey(random io.Reader) (*Key, error) {
	private, err := ecdh.P256().GenerateKey(random)
	if err != nil {
		return nil, fmt.Errorf("key for the key broker: %w", err)
	}
	return &Key{private}, nil
}

// JWK is the public half.
func (k *Key) JWK() JWK {
	point := k.private.PublicKey().Bytes() // 4, X, Y
	return JWK{Algorithm: keyAlgorithm, Curve: curve, Type: keyType, X: b64(point[1:33]), Y: b64(point[33:])}
}

// Unwrap gives the content key.
func (k *Key) Unwrap(w Wrapped) ([32]byte, error) {
	var out [32]byte
	ephemeral, err := ecdh.P256().NewPublicKey(w.Ephemeral[:])
	if err != nil {
		return out, fmt.Errorf("ephemeral key: %w", err)
	}
	z, err := k.private.ECDH(ephemeral)
	if err != nil {
		return out, fmt.Errorf("ephemeral key: %w", err)
	}
	defer clear(z)
	kek := concatKDF(z, keyAlgorithm, nil, nil, 256)
	defer clear(kek)
	return out, unwrap(out[:], kek, w.Key[:])
}

// concatKDF derives a key of at most 256 bits (RFC 7518 section 4.6.2).
func concatKDF(z []byte, algorithm string, apu, apv []byte, bits uint32) []byte {
	h := sha256.New()
	h.Write([]byte{0, 0, 0, 1}) // the first and only round
	h.Write(z)
	for _, part := range [][]byte{[]byte(algorithm), apu, apv} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write(part)
	}
	h.Write(binary.BigEndian.AppendUint32(nil, bits))
	return h.Sum(nil)[:bits/8]
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
