package bundle

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// Key is a principal's public key: ECDSA P-256, the kind that cosign makes and verifies.
type Key struct {
	// ID is the hex SHA-256 of the key's SubjectPublicKeyInfo.
	ID  string
	pub *ecdsa.PublicKey
	der []byte // SubjectPublicKeyInfo
}

// ErrKey reports a key of another kind or form than ECDSA P-256 in PEM.
var ErrKey = errors.New("not an ECDSA P-256 key in PEM")

// ParseKey reads a public key from PEM ("PUBLIC KEY").
func ParseKey(text []byte) (Key, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" || len(block.Headers) > 0 || len(trimSpace(rest)) > 0 {
		return Key{}, ErrKey
	}
	any, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	pub, ok := any.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return Key{}, ErrKey
	}
	return keyOf(pub)
}

// keyOf derives the ID from the key's one canonical DER form, not from the bytes that came in.
func keyOf(pub *ecdsa.PublicKey) (Key, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return Key{ID: Digest(sha256.Sum256(der)).Hex(), pub: pub, der: der}, nil
}

// verify reports whether sig is k's signature of message. The zero Key verifies nothing.
func (k Key) verify(message, sig []byte) bool {
	if k.pub == nil {
		return false
	}
	sum := sha256.Sum256(message)
	return ecdsa.VerifyASN1(k.pub, sum[:], sig)
}

// PrivateKey signs as one principal. It is for hosts: the guest holds no principal's key.
type PrivateKey struct {
	key *ecdsa.PrivateKey
}

// GenerateKey makes a new key.
func GenerateKey() (*PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return &PrivateKey{key}, nil
}

// ParsePrivateKey reads an unencrypted private key from PEM ("PRIVATE KEY" or "EC PRIVATE KEY").
func ParsePrivateKey(text []byte) (*PrivateKey, error) {
	block, rest := pem.Decode(text)
	if block == nil || len(trimSpace(rest)) > 0 {
		return nil, ErrKey
	}
	var any any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		any, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		any, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("%w: it is a %q", ErrKey, block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	key, ok := any.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, ErrKey
	}
	return &PrivateKey{key}, nil
}

// MarshalPEM writes the private key as PKCS #8.
func (p *PrivateKey) MarshalPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		return nil, fmt.Errorf("writing a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// PublicPEM writes the public half, as the policy names it.
func (p *PrivateKey) PublicPEM() ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(&p.key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("writing a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// Public returns the public half.
func (p *PrivateKey) Public() (Key, error) { return keyOf(&p.key.PublicKey) }

func (p *PrivateKey) sign(message []byte) ([]byte, error) {
	sum := sha256.Sum256(message)
	sig, err := ecdsa.SignASN1(rand.Reader, p.key, sum[:])
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return sig, nil
}

func trimSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\n' || b[0] == '\r' || b[0] == '\t') {
		b = b[1:]
	}
	return b
}
