// Package dsse verifies DSSE envelopes (secure-systems-lab/dsse v1.0.2) with
// ECDSA P-256 keys. It says which keys signed which bytes; who the keys belong
// to and what the payload means is the caller's.
package dsse

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"strconv"

	"omega/internal/strictjson"
)

// maxSignatures bounds the work that one envelope can cause.
const maxSignatures = 8

// Envelope is a DSSE envelope (envelope.md).
type Envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     []byte      `json:"payload"`
	Signatures  []Signature `json:"signatures"`
}

// Signature is one signature of an envelope. KeyID is a hint, never believed.
type Signature struct {
	KeyID string `json:"keyid,omitempty"`
	Sig   []byte `json:"sig"`
}

// PAE is the byte string that a signature covers (protocol.md).
func PAE(payloadType string, payload []byte) []byte {
	b := make([]byte, 0, len(payload)+len(payloadType)+32)
	b = append(b, "DSSEv1 "...)
	b = strconv.AppendInt(b, int64(len(payloadType)), 10)
	b = append(b, ' ')
	b = append(b, payloadType...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(len(payload)), 10)
	b = append(b, ' ')
	return append(b, payload...)
}

// Parse reads an envelope of at most limit bytes around a payload of that type.
func Parse(b []byte, payloadType string, limit int) (*Envelope, error) {
	e := &Envelope{}
	if err := strictjson.Decode(b, e, strictjson.Limits{MaxBytes: limit}); err != nil {
		return nil, fmt.Errorf("envelope: %w", err)
	}
	if err := e.Check(payloadType); err != nil {
		return nil, err
	}
	return e, nil
}

// Check reports whether an envelope that was read as part of something else is
// about a payload of that type and has a sensible number of signatures.
func (e *Envelope) Check(payloadType string) error {
	if e.PayloadType != payloadType {
		return fmt.Errorf("envelope: payload type %.80q, not %q", e.PayloadType, payloadType)
	}
	if len(e.Signatures) == 0 || len(e.Signatures) > maxSignatures {
		return fmt.Errorf("envelope: %d signatures", len(e.Signatures))
	}
	return nil
}

// A Key is an ECDSA P-256 public key.
type Key struct {
	// ID is the SHA-256 of the key's SubjectPublicKeyInfo.
	ID  [32]byte
	pub *ecdsa.PublicKey
}

// ErrKey reports bytes that are no ECDSA P-256 key in DER.
var ErrKey = errors.New("not an ECDSA P-256 SubjectPublicKeyInfo")

// ParseKey reads a SubjectPublicKeyInfo in DER, in its one spelling.
func ParseKey(der []byte) (Key, error) {
	anyKey, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	pub, ok := anyKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return Key{}, ErrKey
	}
	again, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil || string(again) != string(der) {
		return Key{}, ErrKey
	}
	return Key{ID: sha256.Sum256(der), pub: pub}, nil
}

// Signed reports whether sig is the key's signature over a payload of that
// type. The zero Key has signed nothing.
func (k Key) Signed(payloadType string, payload, sig []byte) bool {
	if k.pub == nil {
		return false
	}
	sum := sha256.Sum256(PAE(payloadType, payload))
	return ecdsa.VerifyASN1(k.pub, sum[:], sig)
}

// SignedBare reports whether sig is the key's signature over message as it is, without the envelope's
// encoding. No envelope's signature is: its message begins with DSSE's own word.
func (k Key) SignedBare(message, sig []byte) bool {
	if k.pub == nil || bytes.HasPrefix(message, []byte("DSSEv1 ")) {
		return false
	}
	sum := sha256.Sum256(message)
	return ecdsa.VerifyASN1(k.pub, sum[:], sig)
}

// Signers are the IDs of the keys that signed the envelope, each once.
func (e *Envelope) Signers(keys []Key) [][32]byte {
	var out [][32]byte
	seen := map[[32]byte]bool{}
	for _, k := range keys {
		for _, s := range e.Signatures {
			if !seen[k.ID] && k.Signed(e.PayloadType, e.Payload, s.Sig) {
				seen[k.ID] = true
				out = append(out, k.ID)
			}
		}
	}
	return out
}
