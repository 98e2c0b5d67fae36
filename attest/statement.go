package attest

import (
	"encoding/json"
	"errors"
	"fmt"

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

// vouched is what a principal's statement says: that it vouches for a digest, in
// a role.
type vouched struct {
	digest          Bytes32
	role, principal string
}

// readStatement reads what a principal has signed, strictly.
func readStatement(payload []byte) (vouched, error) {
	var v vouch
	if err := strictjson.Decode(payload, &v, strictjson.Limits{MaxBytes: maxStatement}); err != nil {
		return vouched{}, fmt.Errorf("statement: %w", err)
	}
	if v.Type != StatementType && v.Type != statementV01 || v.PredicateType != principalPredicate || len(v.Subject) != 1 {
		return vouched{}, errors.New("the statement is of another kind")
	}
	var p vouchPredicate
	if err := strictjson.Decode(v.Predicate, &p, strictjson.Limits{MaxBytes: maxStatement}); err != nil {
		return vouched{}, fmt.Errorf("statement: %w", err)
	}
	out := vouched{role: p.Role, principal: p.Principal}
	if err := out.digest.UnmarshalText([]byte(v.Subject[0].Digest["sha256"])); err != nil {
		return vouched{}, fmt.Errorf("statement: subject: %w", err)
	}
	return out, nil
}

// vouches says why the statement does not stand behind a component, if it does
// not.
func (v vouched) vouches(c *Component, bundle Bytes32) error {
	if v.role != c.Role || v.principal != c.Principal {
		return fmt.Errorf("the statement is by %.80q as %.80q", v.principal, v.role)
	}
	if v.digest != c.Digest && (!c.named() || v.digest != bundle && !bundle.IsZero()) {
		return errors.New("the statement is about something else")
	}
	return nil
}

// named reports whether a signature of the agent bundle vouches for the
// component: the agent manifest names it, and the platform has read that. Where
// the bundle is not shown, which one it is stays the platform's word.
func (c *Component) named() bool { return c.Kind == KindImage || c.Kind == KindPeer }
