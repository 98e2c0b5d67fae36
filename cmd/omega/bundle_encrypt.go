package main

import (
	"errors"
	"fmt"

	"omega/agentloader/bundle"
	"omega/agentloader/ocicrypt"
	"omega/attest/kbs/rcar"
)

// A sealing encrypts the layers of images that are packed. A nil one leaves them as they are.
type sealing struct {
	keyID string // where the key broker keeps the key
	key   []byte
}

// readSealing reads what pack was told; it is nil where that is nothing.
func readSealing(keyID, keyFile string) (*sealing, error) {
	if keyID == "" && keyFile == "" {
		return nil, nil
	}
	if keyID == "" || keyFile == "" {
		return nil, errors.New("omega bundle pack: --encrypt and --encrypt-key go together")
	}
	if _, err := rcar.ResourcePath(keyID); err != nil {
		return nil, err
	}
	key, err := readBounded(keyFile, maxKeyFile)
	if err != nil {
		return nil, err
	}
	if len(key) != 32 {
		return nil, fmt.Errorf("%s: %d bytes, not 32", keyFile, len(key))
	}
	return &sealing{keyID, key}, nil
}

// apply returns the layer as it is pushed, and its descriptor.
func (s *sealing) apply(layer []byte) ([]byte, bundle.OCIDescriptor, error) {
	d := bundle.OCIDescriptor{MediaType: typeImageLayer}
	if s != nil {
		sealed, notes, err := ocicrypt.Seal(layer, s.keyID, s.key)
		if err != nil {
			return nil, d, fmt.Errorf("encrypting: %w", err)
		}
		layer, d.MediaType, d.Annotations = sealed, typeImageLayer+ocicrypt.Suffix, notes
	}
	d.Digest, d.Size = bundle.DigestOf(layer), int64(len(layer))
	return layer, d, nil
}
