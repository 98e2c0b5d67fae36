package bundle

import (
	"encoding/json"
	"fmt"

	"omega/internal/strictjson"
)

// The in-toto statement types that are read: cosign still writes v0.1 in front of a custom predicate.
// Both have the same fields (in-toto attestation spec v1.0, statement.md).
const (
	statementV1  = "https://in-toto.io/Statement/v1"
	statementV01 = "https://in-toto.io/Statement/v0.1"
)

// statement is an in-toto statement about exactly one subject.
type statement struct {
	Type          string          `json:"_type"`
	Subject       []subject       `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

// subject is a resource descriptor (in-toto attestation spec v1.0). Only the digest means anything here.
type subject struct {
	Name        string            `json:"name,omitempty"`
	URI         string            `json:"uri,omitempty"`
	Digest      map[string]string `json:"digest"`
	Annotations map[string]any    `json:"annotations,omitempty"`
}

// parseStatement reads a statement with the given predicate and one SHA-256 subject into predicate.
func parseStatement(payload []byte, predicateType string, predicate any) (Digest, error) {
	var s statement
	if err := strictjson.Decode(payload, &s, strictjson.Limits{MaxBytes: MaxSignature}); err != nil {
		return Digest{}, fmt.Errorf("statement: %w", err)
	}
	if s.Type != statementV1 && s.Type != statementV01 {
		return Digest{}, fmt.Errorf("statement: type %.80q", s.Type)
	}
	if s.PredicateType != predicateType {
		return Digest{}, fmt.Errorf("%w: %.80q, not %q", ErrPredicate, s.PredicateType, predicateType)
	}
	if len(s.Subject) != 1 {
		return Digest{}, fmt.Errorf("statement: %d subjects", len(s.Subject))
	}
	d, err := ParseDigest("sha256:" + s.Subject[0].Digest["sha256"])
	if err != nil {
		return Digest{}, fmt.Errorf("statement: subject: %w", err)
	}
	if err := strictjson.Decode(s.Predicate, predicate, strictjson.Limits{MaxBytes: MaxSignature}); err != nil {
		return Digest{}, fmt.Errorf("predicate: %w", err)
	}
	return d, nil
}

// newStatement writes a statement about d.
func newStatement(d Digest, predicateType string, predicate any) ([]byte, error) {
	p, err := strictjson.Canonical(predicate)
	if err != nil {
		return nil, fmt.Errorf("predicate: %w", err)
	}
	return strictjson.Canonical(statement{
		Type:          statementV1,
		Subject:       []subject{{Digest: map[string]string{"sha256": d.Hex()}}},
		PredicateType: predicateType,
		Predicate:     p,
	})
}
