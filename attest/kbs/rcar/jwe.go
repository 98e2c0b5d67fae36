package rcar

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"

	"omega/internal/strictjson"
)

// MaxResource bounds a resource: keys and small secrets.
const MaxResource = 64 << 10

// MaxResponse bounds the message that carries a resource: base64, a wrapped key
// and a header around it.
const MaxResponse = 4*MaxResource/3 + 4<<10

// Response is a resource on its way: a JSON Web Encryption in flattened form
// (RFC 7516 section 7.2.2) to a Key.
type Response struct {
	Wrapped    Wrapped
	iv         [12]byte
	tag        [16]byte
	ciphertext []byte
	aad        []byte
}

// response is it as it is written.
type response struct {
	Protected    string  `json:"protected"`
	EncryptedKey string  `json:"encrypted_key"`
	AAD          *string `json:"aad,omitempty"`
	IV           string  `json:"iv"`
	Ciphertext   string  `json:"ciphertext"`
	Tag          string  `json:"tag"`
}

// header is the protected header; one with more fields is not understood.
type header struct {
	Algorithm string `json:"alg"`
	Content   string `json:"enc"`
	Ephemeral struct {
		Curve string `json:"crv"`
		Type  string `json:"kty"`
		X     string `json:"x"`
		Y     string `json:"y"`
	} `json:"epk"`
}

// ParseResponse reads a resource's message. What the protocol calls aad is the
// protected header itself, so another value is refused.
func ParseResponse(b []byte) (*Response, error) {
	var in response
	if err := strictjson.Decode(b, &in, strictjson.Limits{MaxBytes: MaxResponse}); err != nil {
		return nil, fmt.Errorf("resource: %w", err)
	}
	if in.AAD != nil && *in.AAD != in.Protected {
		return nil, errors.New("resource: additional data that is not the header")
	}
	out := &Response{aad: []byte(in.Protected)}
	if err := out.header(in.Protected); err != nil {
		return nil, fmt.Errorf("resource: header: %w", err)
	}
	for _, f := range []struct {
		name, text string
		to         []byte
	}{{"encrypted key", in.EncryptedKey, out.Wrapped.Key[:]}, {"iv", in.IV, out.iv[:]}, {"tag", in.Tag, out.tag[:]}} {
		if err := fill(f.to, f.text); err != nil {
			return nil, fmt.Errorf("resource: %s: %w", f.name, err)
		}
	}
	var err error
	if out.ciphertext, err = unb64(in.Ciphertext); err != nil {
		return nil, fmt.Errorf("resource: ciphertext: %w", err)
	}
	if len(out.ciphertext) > MaxResource {
		return nil, fmt.Errorf("resource: %d bytes, limit %d", len(out.ciphertext), MaxResource)
	}
	return out, nil
}

func (r *Response) header(text string) error {
	b, err := unb64(text)
	if err != nil {
		return err
	}
	var h header
	if err := strictjson.Decode(b, &h, strictjson.Limits{MaxBytes: 1 << 10}); err != nil {
		return err
	}
	switch {
	case h.Algorithm != keyAlgorithm:
		return fmt.Errorf("algorithm %.40q, want %s", h.Algorithm, keyAlgorithm)
	case h.Content != contentAlgorithm:
		return fmt.Errorf("content encryption %.40q, want %s", h.Content, contentAlgorithm)
	case h.Ephemeral.Type != keyType || h.Ephemeral.Curve != curve:
		return fmt.Errorf("ephemeral key %.20q on %.20q, want %s on %s", h.Ephemeral.Type, h.Ephemeral.Curve, keyType, curve)
	}
	r.Wrapped.Ephemeral[0] = 4 // SEC 1 section 2.3.3: uncompressed
	if err := fill(r.Wrapped.Ephemeral[1:33], h.Ephemeral.X); err != nil {
		return fmt.Errorf("x: %w", err)
	}
	if err := fill(r.Wrapped.Ephemeral[33:], h.Ephemeral.Y); err != nil {
		return fmt.Errorf("y: %w", err)
	}
	return nil
}

// Open gives the resource, in memory that is the caller's to clear. The content
// key is cleared here.
func (r *Response) Open(key *[32]byte) ([]byte, error) {
	defer clear(key[:])
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("resource: %w", err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("resource: %w", err)
	}
	sealed := append(r.ciphertext[:len(r.ciphertext):len(r.ciphertext)], r.tag[:]...)
	out, err := gcm.Open(nil, r.iv[:], sealed, r.aad)
	if err != nil {
		return nil, errors.New("resource: not sealed by who wrapped its key")
	}
	return out, nil
}

func unb64(s string) ([]byte, error) {
	for _, c := range []byte(s) {
		if c == '\r' || c == '\n' { // encoding/base64 would skip them
			return nil, errors.New("not base64url")
		}
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, errors.New("not base64url")
	}
	return b, nil
}

func fill(dst []byte, text string) error {
	b, err := unb64(text)
	if err != nil {
		return err
	}
	if len(b) != len(dst) {
		return fmt.Errorf("%d bytes, want %d", len(b), len(dst))
	}
	copy(dst, b)
	return nil
}
