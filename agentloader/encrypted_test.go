package agentloader

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"omega/agentloader/ocicrypt"
)

var layerKey = bytes.Repeat([]byte{9}, 32)

const layerKeyID = "kbs:///agents/layer/notes"

func TestEncryptedLayersNeedTheirKey(t *testing.T) {
	refusal := errors.New("the broker refused")
	tests := []struct {
		name   string
		key    func(context.Context, string) ([]byte, error)
		change func(layer []byte, notes map[string]string) []byte
		want   error
	}{
		{"the key", func(context.Context, string) ([]byte, error) { return bytes.Clone(layerKey), nil }, nil, nil},
		{"no broker", nil, nil, ErrNoKey},
		{"a broker that refuses", func(context.Context, string) ([]byte, error) { return nil, refusal }, nil, refusal},
		{"another key", func(context.Context, string) ([]byte, error) { return bytes.Repeat([]byte{8}, 32), nil }, nil, ocicrypt.ErrKey},
		{"a changed layer", func(context.Context, string) ([]byte, error) { return bytes.Clone(layerKey), nil },
			func(layer []byte, _ map[string]string) []byte { layer[len(layer)-1] ^= 1; return layer }, ocicrypt.ErrBytes},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.seal = func(layer []byte) ([]byte, string) {
				sealed, notes, err := ocicrypt.Seal(layer, layerKeyID, layerKey)
				w.must(err)
				if tt.change != nil {
					sealed = tt.change(sealed, notes)
				}
				return sealed, annotations(notes)
			}
			raw := w.publish()
			asked := 0
			_, err := w.loader(func(c *Config) {
				if tt.key != nil {
					c.Key = func(ctx context.Context, id string) ([]byte, error) {
						if asked++; id != layerKeyID {
							t.Errorf("asked for %q", id)
						}
						return tt.key(ctx, id)
					}
				}
			}).Admit(t.Context(), raw)
			if tt.want == nil {
				if err != nil || asked != 1 {
					t.Errorf("%v, asked %d times", err, asked)
				}
				return
			}
			refused(t, err, tt.want)
		})
	}
}

// annotations writes notes as the rest of a descriptor.
func annotations(notes map[string]string) string {
	var list []string
	for k, v := range notes {
		list = append(list, fmt.Sprintf("%q:%q", k, v))
	}
	return `,"annotations":{` + strings.Join(list, ",") + `}`
}
