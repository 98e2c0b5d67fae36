package attest

import (
	"errors"
	"fmt"
	"strings"

	"omega/internal/strictjson"
)

// RequestVersion is the format of a request for evidence.
const RequestVersion = "omega/evidence-request/v1"

// MaxRequest bounds a request for evidence, and MaxHave the digests in it.
const (
	MaxRequest = 128 << 10
	MaxHave    = 1024
)

// Request asks a platform for evidence.
type Request struct {
	Version string `json:"version"`
	// Nonce is the asker's, 32 bytes that were never used before.
	Nonce Bytes32 `json:"nonce"`
	// Have and Open are those of a View.
	Have []Bytes32 `json:"have,omitempty" most:"1024"`
	Open *Open     `json:"open,omitempty"`
}

// ParseOpen reads what is opened: an instance, and a component as KIND:NAME;
// without a component, the agent.
func ParseOpen(instance, component string) (*Open, bool) {
	kind, name, ok := strings.Cut(component, ":")
	ok = ok && kind != "" || component == ""
	o := &Open{Instance: instance, Kind: kind, Name: name}
	return o, ok && o.check() == nil
}

func (o *Open) check() error {
	if o.Instance == "" || o.Kind == "" && o.Name != "" {
		return errors.New("opening without an instance, or a name without its kind")
	}
	return shortText(o.Instance, o.Kind, o.Name)
}

// ParseRequest reads a request from strict JSON.
func ParseRequest(b []byte) (*Request, error) {
	r := &Request{}
	if err := strictjson.Decode(b, r, strictjson.Limits{MaxBytes: MaxRequest}); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	switch {
	case r.Version != RequestVersion:
		return nil, fmt.Errorf("request: version %.40q, want %q", r.Version, RequestVersion)
	case r.Nonce.IsZero():
		return nil, errors.New("request: no nonce")
	case len(r.Have) > MaxHave:
		return nil, fmt.Errorf("request: %d known digests, at most %d", len(r.Have), MaxHave)
	}
	if r.Open != nil {
		if err := r.Open.check(); err != nil {
			return nil, fmt.Errorf("request: %w", err)
		}
	}
	return r, nil
}
