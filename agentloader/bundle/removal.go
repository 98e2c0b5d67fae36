package bundle

import (
	"errors"
	"fmt"
	"time"

	"omega/internal/strictjson"
)

// PredicateRemoval is the statement "stop that instance of the subject, there, once".
const PredicateRemoval = "https://omega.invalid/removal/v1"

// maxGrace bounds how many seconds an agent may take to end.
const maxGrace = 120

// Removal says: stop this instance of this agent bundle on that platform, once.
type Removal struct {
	// Bundle is the digest of the agent bundle that the instance runs, the statement's subject.
	Bundle Digest `json:"-"`
	// Instance names the running agent on its platform.
	Instance string `json:"instance"`
	// Audience is a platform set's name or a boot id in hex.
	Audience string `json:"audience"`
	// Serial is never accepted twice from one key, of removals and deployments together.
	Serial uint64 `json:"serial"`
	// Expires ends the statement's validity.
	Expires time.Time `json:"expires"`
	// GraceSeconds is how long the agent may take to end before it is killed.
	GraceSeconds int `json:"grace_seconds"`
}

// ParseRemoval reads a removal from an envelope without believing it: use it only to word a refusal.
func ParseRemoval(raw []byte) (*Removal, error) {
	env, err := ParseEnvelope(raw)
	if err != nil {
		return nil, err
	}
	return removalIn(env)
}

// VerifyRemoval verifies that at least one of keys signed the removal, and returns it with the IDs of
// those that did. Audience, serial and expiry are left to the caller, who knows the platform and the
// time.
func VerifyRemoval(raw []byte, keys []Key) (*Removal, []string, error) {
	env, err := ParseEnvelope(raw)
	if err != nil {
		return nil, nil, err
	}
	ids, err := signersOf(env, keys)
	if err != nil {
		return nil, nil, err
	}
	r, err := removalIn(env)
	if err != nil {
		return nil, nil, err
	}
	return r, ids, nil
}

func removalIn(e *Envelope) (*Removal, error) {
	r := new(Removal)
	about, err := parseStatement(e.Payload, PredicateRemoval, r)
	if err != nil {
		return nil, err
	}
	r.Bundle = about
	if err := r.validate(); err != nil {
		return nil, fmt.Errorf("removal: %w", err)
	}
	return r, nil
}

func (r *Removal) validate() error {
	if r.GraceSeconds < 0 || r.GraceSeconds > maxGrace {
		return fmt.Errorf("grace of %d seconds, want 0 to %d", r.GraceSeconds, maxGrace)
	}
	return checkOrder(r.Bundle, r.Instance, r.Audience, r.Serial, r.Expires)
}

// checkOrder checks what deployments and removals have in common.
func checkOrder(d Digest, instance, audience string, serial uint64, expires time.Time) error {
	switch {
	case d.IsZero():
		return errors.New("no bundle")
	case !ValidName(instance):
		return fmt.Errorf("instance %.80q", instance)
	case !ValidName(audience):
		return fmt.Errorf("audience %.80q", audience)
	case serial == 0 || serial > 1<<53:
		return fmt.Errorf("serial %d", serial)
	case expires.IsZero():
		return errors.New("no expiry")
	}
	return nil
}

// SignRemoval signs r and returns the DSSE envelope.
func SignRemoval(key *PrivateKey, r Removal) ([]byte, error) {
	r.Expires = r.Expires.UTC().Truncate(time.Second)
	if err := r.validate(); err != nil {
		return nil, fmt.Errorf("removal: %w", err)
	}
	payload, err := newStatement(r.Bundle, PredicateRemoval, r)
	if err != nil {
		return nil, err
	}
	env, _, err := seal(key, payload)
	if err != nil {
		return nil, err
	}
	return strictjson.Canonical(env)
}
