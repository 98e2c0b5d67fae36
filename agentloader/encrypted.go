package agentloader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"omega/agentloader/bundle"
	"omega/agentloader/ocicrypt"
)

// ErrNoKey reports an encrypted layer whose key nobody released.
var ErrNoKey = errors.New("no key for an encrypted layer")

// opened returns the layer as it was before it was encrypted, and its media type. A layer that was not
// encrypted is what it is.
func (c *candidate) opened(ctx context.Context, d bundle.OCIDescriptor, layer *os.File) (io.Reader, string, error) {
	mediaType, encrypted := strings.CutSuffix(d.MediaType, ocicrypt.Suffix)
	if !encrypted {
		return layer, mediaType, nil
	}
	s, err := ocicrypt.Parse(d.Annotations)
	if err != nil {
		return nil, "", err
	}
	key, err := c.key(ctx, s.KeyID)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %.200q: %w", ErrNoKey, s.KeyID, err)
	}
	u, err := s.Unwrap(key)
	if err != nil {
		return nil, "", err
	}
	r, err := u.Open(layer)
	return r, mediaType, err
}

// key asks for a key once for all layers of an image.
func (c *candidate) key(ctx context.Context, id string) ([]byte, error) {
	if key, ok := c.keys[id]; ok {
		return key, nil
	}
	if c.loader.cfg.Key == nil {
		return nil, errors.New("the policy names no key broker")
	}
	key, err := c.loader.cfg.Key(ctx, id)
	if err != nil {
		return nil, err
	}
	if c.keys == nil {
		c.keys = map[string][]byte{}
	}
	c.keys[id] = key
	return key, nil
}

// forgetKeys clears them.
func (c *candidate) forgetKeys() {
	for _, key := range c.keys {
		clear(key)
	}
	c.keys = nil
}
