package signer

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
)

// maxCheckpoint bounds a checkpoint body; ours has an origin of 38 bytes, a
// decimal size and 44 bytes of base64.
const maxCheckpoint = 256

// parseCheckpoint reads a C2SP tlog-checkpoint body that names origin and has no
// extension lines, and returns its tree size and root hash.
func parseCheckpoint(text []byte, origin string) (size uint64, root [32]byte, err error) {
	if len(text) > maxCheckpoint {
		return 0, root, fmt.Errorf("checkpoint: %d bytes are more than %d", len(text), maxCheckpoint)
	}
	lines := bytes.Split(text, []byte("\n"))
	if len(lines) != 4 || len(lines[3]) != 0 {
		return 0, root, errors.New("checkpoint: not three lines")
	}
	if string(lines[0]) != origin {
		return 0, root, fmt.Errorf("checkpoint: origin is not %s", origin)
	}
	size, err = strconv.ParseUint(string(lines[1]), 10, 63)
	if err != nil || strconv.FormatUint(size, 10) != string(lines[1]) {
		return 0, root, errors.New("checkpoint: size is not a plain decimal number")
	}
	hash, err := base64.StdEncoding.Strict().DecodeString(string(lines[2]))
	if err != nil || len(hash) != len(root) {
		return 0, root, errors.New("checkpoint: root hash is not 32 bytes of base64")
	}
	return size, [32]byte(hash), nil
}
