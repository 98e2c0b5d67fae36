package attest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"omega/internal/dsse"
	"omega/internal/strictjson"
)

// Types of a revocation list.
const (
	RevocationVersion = "omega/revocations/v1"
	RevocationPayload = "application/vnd.omega.revocations+json"
)

// Bounds of a revocation list. It is short-lived, so that who keeps a newer one
// back gains no more than its lifetime.
const (
	MaxRevocations     = 1 << 20
	maxRevoked         = 16384
	MaxRevocationsLife = 31 * 24 * time.Hour
)

// Revocations is a signed list of what nobody should rely on any more.
type Revocations struct {
	Version string `json:"version"`
	// Serial grows from list to list.
	Serial  uint64    `json:"serial"`
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
	// Components are digests of components, agent bundles included, and Keys
	// the IDs of signing keys.
	Components []Bytes32 `json:"components" most:"16384"`
	Keys       []Bytes32 `json:"keys" most:"16384"`
}

// RevocationKeys are those that may sign revocation lists, and how many of them
// have to. The zero value accepts no list.
type RevocationKeys struct {
	Keys      []dsse.Key
	Threshold int // zero means one
}

// ParseRevocations reads a list in its DSSE envelope, signed by enough of the
// keys. Errors are ErrSignature. Whether it has expired is Current's to say.
func ParseRevocations(b []byte, by RevocationKeys) (*Revocations, error) {
	r, err := parseRevocations(b, by)
	if err != nil {
		return nil, fmt.Errorf("%w: revocation list: %w", ErrSignature, err)
	}
	return r, nil
}

func parseRevocations(b []byte, by RevocationKeys) (*Revocations, error) {
	e, err := dsse.Parse(b, RevocationPayload, 2*MaxRevocations)
	if err != nil {
		return nil, err
	}
	if n := len(e.Signers(by.Keys)); n < max(by.Threshold, 1) {
		return nil, fmt.Errorf("%d of %d needed signatures by keys that may revoke", n, max(by.Threshold, 1))
	}
	r := &Revocations{}
	if err := strictjson.Decode(e.Payload, r, strictjson.Limits{MaxBytes: MaxRevocations}); err != nil {
		return nil, err
	}
	switch {
	case r.Version != RevocationVersion:
		return nil, fmt.Errorf("version %.40q, want %q", r.Version, RevocationVersion)
	case r.Serial == 0 || r.Issued.IsZero() || !r.Expires.After(r.Issued):
		return nil, errors.New("no serial, or no lifetime")
	case r.Expires.Sub(r.Issued) > MaxRevocationsLife:
		return nil, fmt.Errorf("lifetime of %s, at most %s", r.Expires.Sub(r.Issued), MaxRevocationsLife)
	case len(r.Components) > maxRevoked || len(r.Keys) > maxRevoked:
		return nil, fmt.Errorf("more than %d entries", maxRevoked)
	}
	return r, nil
}

// Current fails closed: a list that has expired, or is from the future, says
// nothing about what was revoked since. The error is an ErrSignature.
func (r *Revocations) Current(now time.Time) error {
	if now.Before(r.Issued) || !now.Before(r.Expires) {
		return fmt.Errorf("%w: revocation list %d is good from %s to %s, not at %s", ErrSignature, r.Serial,
			r.Issued.UTC().Format(time.RFC3339), r.Expires.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// Refused reports whether the list names a component's digest or the ID of a
// key. A nil list names nothing.
func (r *Revocations) Refused(digest, keyID Bytes32) bool {
	return r != nil && (!digest.IsZero() && slices.Contains(r.Components, digest) || !keyID.IsZero() && slices.Contains(r.Keys, keyID))
}

// RefusedPart is why a component that is shown is refused, or nothing.
func (r *Revocations) RefusedPart(c *Component) string {
	if r.Refused(c.Digest, Bytes32{}) {
		return fmt.Sprintf("%s %q is revoked", c.Kind, c.Name)
	}
	for _, id := range c.KeyIDs() {
		if r.Refused(Bytes32{}, id) {
			return fmt.Sprintf("%s %q: key %s of %q is revoked", c.Kind, c.Name, id, c.Principal)
		}
	}
	return ""
}
