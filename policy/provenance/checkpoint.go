package provenance

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// ErrSignature reports a checkpoint that the log's key did not sign.
var ErrSignature = errors.New("checkpoint is not signed by the log's key")

// MaxCheckpoint bounds a signed checkpoint, with room for witnesses.
const MaxCheckpoint = 16 << 10

// keyEd25519 is the signature type byte of a C2SP signed note.
const keyEd25519 = 1

// A Checkpoint is the head of a log (C2SP tlog-checkpoint).
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   tlog.Hash
}

// Text is the checkpoint's note text, which the log's key signs.
func (c Checkpoint) Text() []byte {
	return fmt.Appendf(nil, "%s\n%d\n%s\n", c.Origin, c.Size, c.Root)
}

// ParseCheckpoint reads a checkpoint's text. It is strict: three lines, no
// extensions, one spelling. A signer calls it on what it is asked to sign.
func ParseCheckpoint(text []byte) (Checkpoint, error) {
	if len(text) > MaxCheckpoint {
		return Checkpoint{}, fmt.Errorf("checkpoint of %d bytes", len(text))
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) != 4 || lines[3] != "" {
		return Checkpoint{}, fmt.Errorf("checkpoint of %d lines, want 3", len(lines)-1)
	}
	c := Checkpoint{Origin: lines[0]}
	if !validOrigin(c.Origin) {
		return Checkpoint{}, fmt.Errorf("checkpoint origin %q", c.Origin)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 {
		return Checkpoint{}, fmt.Errorf("checkpoint size %q", lines[1])
	}
	c.Size = uint64(size)
	if c.Root, err = tlog.ParseHash(lines[2]); err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint root: %w", err)
	}
	if string(c.Text()) != string(text) {
		return Checkpoint{}, errors.New("checkpoint has another spelling than its own")
	}
	return c, nil
}

// UnverifiedCheckpoint reads what a signed note claims. It is for who copies a
// log; whoever believes one calls OpenCheckpoint.
func UnverifiedCheckpoint(signed []byte) (Checkpoint, error) {
	text, _, ok := strings.Cut(string(signed), "\n\n")
	if !ok || len(signed) > MaxCheckpoint {
		return Checkpoint{}, fmt.Errorf("%w: %d bytes are no signed note", ErrSignature, len(signed))
	}
	c, err := ParseCheckpoint([]byte(text + "\n"))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return c, nil
}

// OpenCheckpoint checks that key, under the name of the checkpoint's own origin,
// signed the note. If origin is not empty the checkpoint must name it. Notes in
// which a signature is spelt in an unusual way are refused, so that no byte of a
// stored checkpoint can change unseen.
func OpenCheckpoint(signed []byte, origin string, key ed25519.PublicKey) (Checkpoint, error) {
	name, _, _ := strings.Cut(string(signed[:min(len(signed), MaxCheckpoint)]), "\n")
	if !validOrigin(name) || (origin != "" && name != origin) {
		return Checkpoint{}, fmt.Errorf("%w: it names the log %q, not %q", ErrSignature, name, origin)
	}
	l, err := NewLogKey(name, key)
	if err != nil {
		return Checkpoint{}, err
	}
	return l.Open(signed)
}

// A LogKey opens the checkpoints of one log.
type LogKey struct {
	origin   string
	verifier note.Verifiers
}

// NewLogKey prepares the key of the log of an origin.
func NewLogKey(origin string, key ed25519.PublicKey) (*LogKey, error) {
	v, err := verifier(origin, key)
	if err != nil {
		return nil, fmt.Errorf("log key: %w", err)
	}
	return &LogKey{origin: origin, verifier: note.VerifierList(v)}, nil
}

// Open is OpenCheckpoint for this log's origin and key.
func (l *LogKey) Open(signed []byte) (Checkpoint, error) {
	if len(signed) > MaxCheckpoint {
		return Checkpoint{}, fmt.Errorf("%w: %d bytes", ErrSignature, len(signed))
	}
	n, err := note.Open(signed, l.verifier)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	for _, s := range append(n.Sigs, n.UnverifiedSigs...) {
		raw, err := base64.StdEncoding.Strict().DecodeString(s.Base64)
		if err != nil || base64.StdEncoding.EncodeToString(raw) != s.Base64 {
			return Checkpoint{}, fmt.Errorf("%w: signature of %s is not in canonical base64", ErrSignature, s.Name)
		}
	}
	c, err := ParseCheckpoint([]byte(n.Text))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if c.Origin != l.origin {
		return Checkpoint{}, fmt.Errorf("%w: it names the log %q, not %q", ErrSignature, c.Origin, l.origin)
	}
	return c, nil
}

// SignCheckpoint signs a checkpoint's text under its own origin as the key's name.
func SignCheckpoint(text []byte, key ed25519.PrivateKey) ([]byte, error) {
	c, err := ParseCheckpoint(text)
	if err != nil {
		return nil, err
	}
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok || len(key) != ed25519.PrivateKeySize {
		return nil, errors.New("log key is not an Ed25519 key")
	}
	sig := binary.BigEndian.AppendUint32(nil, keyHash(c.Origin, public))
	sig = append(sig, ed25519.Sign(key, text)...)
	return fmt.Appendf(nil, "%s\n\u2014 %s %s\n", text, c.Origin, base64.StdEncoding.EncodeToString(sig)), nil
}

// verifier is x/mod's, made from the key as a signed note would name it.
func verifier(name string, key ed25519.PublicKey) (note.Verifier, error) {
	if len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%d bytes, want %d", len(key), ed25519.PublicKeySize)
	}
	text, err := note.NewEd25519VerifierKey(name, key)
	if err != nil {
		return nil, err
	}
	return note.NewVerifier(text)
}

// keyHash is a key's short id (C2SP signed-note, "Signatures").
func keyHash(name string, key ed25519.PublicKey) uint32 {
	h := sha256.New()
	h.Write([]byte(name + "\n"))
	h.Write([]byte{keyEd25519})
	h.Write(key)
	return binary.BigEndian.Uint32(h.Sum(nil))
}

// validOrigin is what both a checkpoint and a key name allow.
func validOrigin(s string) bool {
	if s == "" || len(s) > 255 {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == '+' || r >= 0x7f })
}
