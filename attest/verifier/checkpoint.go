package verifier

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

	"omega/attest"
)

// checkpoint is the head of a provenance log.
type checkpoint struct {
	size uint64
	root attest.Bytes32
}

// openCheckpoint reads a signed note (C2SP signed-note) that holds a checkpoint
// (C2SP tlog-checkpoint) without extension lines, signed by key under origin.
func openCheckpoint(signed []byte, origin string, key [32]byte) (*checkpoint, error) {
	n, err := note.Open(signed, note.VerifierList(noteKey{origin, key}))
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || lines[3] != "" || lines[0] != origin {
		return nil, errors.New("checkpoint: not the three lines of this log")
	}
	size, err := strconv.ParseUint(lines[1], 10, 63)
	if err != nil || strconv.FormatUint(size, 10) != lines[1] {
		return nil, errors.New("checkpoint: size is not a plain number")
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != 32 {
		return nil, errors.New("checkpoint: root is not 32 bytes of base64")
	}
	return &checkpoint{size, attest.Bytes32(root)}, nil
}

// noteKey is an Ed25519 key of a signed note (algorithm 1).
type noteKey struct {
	name string
	key  [32]byte
}

func (k noteKey) Name() string { return k.name }

func (k noteKey) KeyHash() uint32 {
	sum := sha256.Sum256(append([]byte(k.name+"\n\x01"), k.key[:]...))
	return binary.BigEndian.Uint32(sum[:])
}

func (k noteKey) Verify(msg, sig []byte) bool { return ed25519.Verify(k.key[:], msg, sig) }
