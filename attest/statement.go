package attest

import (
	"encoding/json"
	"errors"
	"fmt"

	"omega/internal/dsse"
	"omega/internal/strictjson"
)

// Types of what principals sign, as agentloader/bundle writes it.
const (
	principalPayload   = "application/vnd.in-toto+json"
	principalPredicate = "https://omega.invalid/principal/v1"
	// cosign writes v0.1 of the in-toto statement; both have the same fields.
	statementV01 = "https://in-toto.io/Statement/v0.1"
)

// ErrUnvouched reports a component without a valid signature of its principal;
// it is an ErrSignature.
var ErrUnvouched = fmt.Errorf("%w: no valid signature of the principal", ErrSignature)

// vouch is the in-toto statement of a principal about one digest.
type vouch struct {
	Type          string          `json:"_type"`
	Subject       []vouchSubject  `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

type vouchSubject struct {
	Name        string            `json:"name,omitempty"`
	URI         string            `json:"uri,omitempty"`
	Digest      map[string]string `json:"digest"`
	Annotations map[string]any    `json:"annotations,omitempty"`
}

type vouchPredicate struct {
	Role      string `json:"role"`
	Principal string `json:"principal"`
}

// Vouched verifies the component's signatures: each is its principal's, in its
// role, about its digest or about the agent bundle that names it. Whether the
// keys are the principal's is for a policy to say.
func (c *Component) Vouched(bundle Bytes32) error {
	if len(c.Signatures) == 0 {
		return fmt.Errorf("%w: %s %q: principal %q has not signed it as %q", ErrUnvouched, c.Kind, c.Name, c.Principal, c.Role)
	}
	seen := map[Bytes32]bool{}
	for i := range c.Signatures {
		s := &c.Signatures[i]
		err := s.verify(c, bundle)
		if err == nil && seen[s.KeyID()] {
			err = errors.New("the same key twice")
		}
		if err != nil {
			return fmt.Errorf("%w: %s %q of principal %q, key %s: %w", ErrUnvouched, c.Kind, c.Name, c.Principal, s.KeyID(), err)
		}
		seen[s.KeyID()] = true
	}
	return nil
}

func (s *Signature) verify(c *Component, bundle Bytes32) error {
	key, err := dsse.ParseKey(s.Key)
	if err != nil {
		return err
	}
	if !key.Signed(principalPayload, s.Payload, s.Sig) {
		return errors.New("the signature is not valid")
	}
	var v vouch
	if err := strictjson.Decode(s.Payload, &v, strictjson.Limits{MaxBytes: maxStatement}); err != nil {
		return fmt.Errorf("statement: %w", err)
	}
	if v.Type != StatementType && v.Type != statementV01 || v.PredicateType != principalPredicate || len(v.Subject) != 1 {
		return errors.New("the statement is of another kind")
	}
	var p vouchPredicate
	if err := strictjson.Decode(v.Predicate, &p, strictjson.Limits{MaxBytes: maxStatement}); err != nil {
		return fmt.Errorf("statement: %w", err)
	}
	if p.Role != c.Role || p.Principal != c.Principal {
		return fmt.Errorf("the statement is by %.80q as %.80q", p.Principal, p.Role)
	}
	var about Bytes32
	if err := about.UnmarshalText([]byte(v.Subject[0].Digest["sha256"])); err != nil {
		return fmt.Errorf("statement: subject: %w", err)
	}
	if about != c.Digest && (!c.named() || about != bundle && !bundle.IsZero()) {
		return errors.New("the statement is about something else")
	}
	return nil
}

// named reports whether a signature of the agent bundle vouches for the
// component: the agent manifest names it, and the platform has read that. Where
// the bundle is not shown, which one it is stays the platform's word.
func (c *Component) named() bool { return c.Kind == KindImage || c.Kind == KindPeer }
