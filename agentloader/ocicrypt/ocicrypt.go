// Package ocicrypt opens and makes encrypted layers of OCI images in the form of the ocicrypt project, with keys
// wrapped as Confidential Containers' attestation agent wraps them: AES-256-CTR with HMAC-SHA256 over the
// ciphertext, its key under AES-256-GCM by a key that a broker releases.
//
// It turns bytes into bytes. It asks no broker: the caller brings the key. It reads no other ciphers and no other
// ways to wrap a key, such as PGP or JWE.
package ocicrypt

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"omega/internal/strictjson"
)

// What an encrypted layer is marked with (ocicrypt, docs and spec/spec.go; guest-components, attestation-agent).
const (
	// Suffix stands behind the media type of the layer that was encrypted.
	Suffix       = "+encrypted"
	noteKey      = "org.opencontainers.image.enc.keys.provider.attestation-agent"
	noteOptions  = "org.opencontainers.image.enc.pubopts"
	layerCipher  = "AES_256_CTR_HMAC_SHA256"
	wrapCipher   = "A256GCM"
	maxNote      = 16 << 10
	keySize      = 32
	nonceSize    = aes.BlockSize
	optionsBytes = 4 << 10
)

// Why an encrypted layer is not opened.
var (
	ErrForm  = errors.New("encrypted layer of another form")
	ErrKey   = errors.New("key does not open the layer")
	ErrBytes = errors.New("encrypted layer was changed")
)

// packet says whose key wraps a layer's (guest-components, AnnotationPacket).
type packet struct {
	KeyID string `json:"kid"`
	Data  []byte `json:"wrapped_data"`
	IV    []byte `json:"iv"`
	Type  string `json:"wrap_type"`
}

// publicOptions stand beside the layer (ocicrypt, blockcipher).
type publicOptions struct {
	Cipher  string            `json:"cipher"`
	HMAC    []byte            `json:"hmac"`
	Options map[string][]byte `json:"cipheroptions"`
}

// privateOptions are what is wrapped.
type privateOptions struct {
	Key     []byte            `json:"symkey"`
	Digest  string            `json:"digest"`
	Options map[string][]byte `json:"cipheroptions"`
}

// Sealed is an encrypted layer's annotations, read.
type Sealed struct {
	KeyID  string // of the key that wraps the layer's: kbs:///REPOSITORY/TYPE/TAG
	packet packet
	public publicOptions
}

// foreign are the limits of JSON that others write: fields may be there that this package does not know.
func foreign(max int) strictjson.Limits { return strictjson.Limits{MaxBytes: max, AllowUnknown: true} }

// Parse reads the annotations of an encrypted layer.
func Parse(notes map[string]string) (*Sealed, error) {
	s := new(Sealed)
	for _, n := range []struct {
		name string
		into any
	}{{noteKey, &s.packet}, {noteOptions, &s.public}} {
		text := notes[n.name]
		if text == "" || len(text) > maxNote {
			return nil, fmt.Errorf("%w: annotation %s is missing or too long", ErrForm, n.name)
		}
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("%w: annotation %s: %w", ErrForm, n.name, err)
		}
		if err := strictjson.Decode(raw, n.into, foreign(maxNote)); err != nil {
			return nil, fmt.Errorf("%w: annotation %s: %w", ErrForm, n.name, err)
		}
	}
	s.KeyID = s.packet.KeyID
	switch {
	case s.public.Cipher != layerCipher || len(s.public.HMAC) != sha256.Size:
		return nil, fmt.Errorf("%w: cipher %.40q", ErrForm, s.public.Cipher)
	case s.packet.Type != wrapCipher || len(s.packet.IV) != 12:
		return nil, fmt.Errorf("%w: key wrapped by %.40q", ErrForm, s.packet.Type)
	case s.KeyID == "" || len(s.KeyID) > 512:
		return nil, fmt.Errorf("%w: key id %.80q", ErrForm, s.KeyID)
	}
	return s, nil
}

// Unwrapped is a layer whose key is known.
type Unwrapped struct {
	key    []byte
	nonce  []byte
	mac    []byte
	digest [sha256.Size]byte // of the plain layer
}

// Unwrap opens the layer's key with the key that a broker released.
func (s *Sealed) Unwrap(kek []byte) (*Unwrapped, error) {
	g, err := gcm(kek)
	if err != nil {
		return nil, err
	}
	raw, err := g.Open(nil, s.packet.IV, s.packet.Data, nil)
	if err != nil {
		return nil, ErrKey
	}
	defer clear(raw)
	var p privateOptions
	if err := strictjson.Decode(raw, &p, foreign(optionsBytes)); err != nil {
		return nil, fmt.Errorf("%w: wrapped options: %w", ErrForm, err)
	}
	u := &Unwrapped{key: p.Key, nonce: p.Options["nonce"], mac: s.public.HMAC}
	digits, ok := strings.CutPrefix(p.Digest, "sha256:")
	n, err := hex.Decode(u.digest[:], []byte(digits[:min(len(digits), 2*sha256.Size)]))
	if len(u.key) != keySize || len(u.nonce) != nonceSize || !ok || err != nil || n != sha256.Size || len(digits) != 2*sha256.Size {
		return nil, fmt.Errorf("%w: wrapped options", ErrForm)
	}
	return u, nil
}

func gcm(kek []byte) (cipher.AEAD, error) {
	if len(kek) != keySize {
		return nil, fmt.Errorf("%w: it has %d bytes, not %d", ErrKey, len(kek), keySize)
	}
	b, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

// Open checks the whole ciphertext and returns a reader of the plain layer, whose end is reached without an error
// only if it is the layer that was encrypted. Read it to its end before anything of it counts.
func (u *Unwrapped) Open(sealed io.ReadSeeker) (io.Reader, error) {
	mac := hmac.New(sha256.New, u.key)
	if _, err := io.Copy(mac, sealed); err != nil {
		return nil, err
	}
	if !hmac.Equal(mac.Sum(nil), u.mac) {
		return nil, ErrBytes
	}
	if _, err := sealed.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	b, err := aes.NewCipher(u.key)
	if err != nil {
		return nil, err
	}
	return &opener{r: cipher.StreamReader{S: cipher.NewCTR(b, u.nonce), R: sealed}, sum: sha256.New(), want: u.digest}, nil
}

// opener compares the digest at the end.
type opener struct {
	r    io.Reader
	sum  hash.Hash
	want [sha256.Size]byte
}

// Read implements io.Reader.
func (o *opener) Read(b []byte) (int, error) {
	n, err := o.r.Read(b)
	o.sum.Write(b[:n])
	if errors.Is(err, io.EOF) && [sha256.Size]byte(o.sum.Sum(nil)) != o.want {
		return n, ErrBytes
	}
	return n, err
}

// Seal encrypts a layer under a key of its own, which it wraps with kek, and returns the ciphertext and the
// layer's annotations.
func Seal(layer []byte, keyID string, kek []byte) (sealed []byte, notes map[string]string, err error) {
	key, nonce, iv := make([]byte, keySize), make([]byte, nonceSize), make([]byte, 12)
	for _, b := range [][]byte{key, nonce, iv} {
		if _, err := rand.Read(b); err != nil {
			return nil, nil, err
		}
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, err
	}
	sealed = make([]byte, len(layer))
	cipher.NewCTR(block, nonce).XORKeyStream(sealed, layer)
	mac := hmac.New(sha256.New, key)
	mac.Write(sealed)
	sum := sha256.Sum256(layer)
	private, err := strictjson.Canonical(privateOptions{Key: key, Digest: "sha256:" + hex.EncodeToString(sum[:]), Options: map[string][]byte{"nonce": nonce}})
	if err != nil {
		return nil, nil, err
	}
	wrapped, err := Wrap(private, keyID, kek, iv)
	if err != nil {
		return nil, nil, err
	}
	public, err := strictjson.Canonical(publicOptions{Cipher: layerCipher, HMAC: mac.Sum(nil), Options: map[string][]byte{}})
	if err != nil {
		return nil, nil, err
	}
	enc := base64.StdEncoding
	return sealed, map[string]string{noteKey: enc.EncodeToString(wrapped), noteOptions: enc.EncodeToString(public)}, nil
}

// Wrap wraps a layer's options as the attestation agent's key provider does; iv is used once for a kek.
func Wrap(options []byte, keyID string, kek, iv []byte) ([]byte, error) {
	g, err := gcm(kek)
	if err != nil {
		return nil, err
	}
	if len(iv) != g.NonceSize() {
		return nil, fmt.Errorf("nonce of %d bytes", len(iv))
	}
	return strictjson.Canonical(packet{KeyID: keyID, Data: g.Seal(nil, iv, options, nil), IV: iv, Type: wrapCipher})
}
