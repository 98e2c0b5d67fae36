package signer

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"omega/policy/provenance"
)

// head is the last checkpoint that this signer signed.
type head struct {
	size uint64
	root tlog.Hash
	note []byte
}

// keptHeads is how many of them are remembered. Between the making of a proof and
// its check the log can have grown; what was signed stays true.
const keptHeads = 256

// maxCheckpoint bounds a checkpoint body; ours has an origin of 38 bytes, a
// decimal size and 44 bytes of base64.
const maxCheckpoint = 256

// SignCheckpoint signs a C2SP checkpoint body (origin, size, root hash, each on
// a line, nothing else) and returns the signed note. The log must not shrink,
// and one size must keep one root.
func (s *Signer) SignCheckpoint(text []byte) ([]byte, error) {
	if len(text) > maxCheckpoint {
		return nil, fmt.Errorf("checkpoint: %d bytes are more than %d", len(text), maxCheckpoint)
	}
	c, err := provenance.ParseCheckpoint(text)
	if err != nil {
		return nil, err
	}
	if c.Origin != s.origin {
		return nil, fmt.Errorf("checkpoint: origin is not %s", s.origin)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Size < s.head.size {
		return nil, fmt.Errorf("checkpoint: size %d is less than the signed %d", c.Size, s.head.size)
	}
	if s.head.note != nil && c.Size == s.head.size && c.Root != s.head.root {
		return nil, fmt.Errorf("checkpoint: size %d has another root already", c.Size)
	}
	signed, err := provenance.SignCheckpoint(text, s.logKey)
	if err != nil {
		return nil, err
	}
	s.head = head{size: c.Size, root: c.Root, note: signed}
	s.heads[c.Size%keptHeads] = s.head
	return signed, nil
}
