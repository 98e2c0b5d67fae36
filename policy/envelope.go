package policy

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"

	"omega/internal/strictjson"
)

// These are read here and in agentloader/bundle: the fields do not import one another.
const (
	statementType = "https://in-toto.io/Statement/v1"
	payloadType   = "application/vnd.in-toto+json"
	maxEnvelope   = 32 << 10
	maxSignatures = 8
)

// ErrSignature reports an envelope that no key with that right has signed.
var ErrSignature = errors.New("no trusted signature")

// envelope is a DSSE envelope (secure-systems-lab/dsse v1.0.2, envelope.md).
type envelope struct {
	PayloadType string              `json:"payloadType"`
	Payload     []byte              `json:"payload"`
	Signatures  []envelopeSignature `json:"signatures"`
}

type envelopeSignature struct {
	KeyID string `json:"keyid,omitempty"` // a hint, never believed
	Sig   []byte `json:"sig"`
}

// statement is an in-toto statement (in-toto attestation spec v1.0, statement.md).
type statement struct {
	Type          string          `json:"_type"`
	Subject       []subject       `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

type subject struct {
	Digest map[string]string `json:"digest"`
}

// pae is what a DSSE signature covers (dsse v1.0.2, protocol.md).
func pae(payload []byte) [32]byte {
	b := []byte("DSSEv1 " + strconv.Itoa(len(payloadType)) + " " + payloadType + " " + strconv.Itoa(len(payload)) + " ")
	return sha256.Sum256(append(b, payload...))
}

func parseEnvelope(raw []byte) (*envelope, *statement, error) {
	var e envelope
	if err := strictjson.Decode(raw, &e, strictjson.Limits{MaxBytes: maxEnvelope}); err != nil {
		return nil, nil, fmt.Errorf("envelope: %w", err)
	}
	if e.PayloadType != payloadType || len(e.Signatures) == 0 || len(e.Signatures) > maxSignatures {
		return nil, nil, fmt.Errorf("envelope: payload type %.80q with %d signatures", e.PayloadType, len(e.Signatures))
	}
	var s statement
	if err := strictjson.Decode(e.Payload, &s, strictjson.Limits{MaxBytes: maxEnvelope}); err != nil {
		return nil, nil, fmt.Errorf("statement: %w", err)
	}
	if s.Type != statementType || len(s.Subject) != 1 || len(s.Subject[0].Digest) != 1 {
		return nil, nil, fmt.Errorf("statement: type %.80q with %d subjects", s.Type, len(s.Subject))
	}
	return &e, &s, nil
}

// signedBy says whether as many different keys of a principal signed as it needs.
func (e *envelope) signedBy(p Principal) error {
	digest := pae(e.Payload)
	made := 0
	for _, k := range p.Keys {
		key := k.public()
		for _, s := range e.Signatures {
			if key != nil && ecdsa.VerifyASN1(key, digest[:], s.Sig) {
				made++
				break
			}
		}
	}
	if made == 0 || made < p.Threshold {
		return fmt.Errorf("%w: %d of %d by %s", ErrSignature, made, p.Threshold, p.Name)
	}
	return nil
}

// public is the key of a valid document, nil for another.
func (k Key) public() *ecdsa.PublicKey {
	block, _ := pem.Decode([]byte(k.PEM))
	if block == nil || k.check() != nil {
		return nil
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil
	}
	ec, _ := key.(*ecdsa.PublicKey)
	return ec
}
