// Package cmw reads and writes RATS conceptual message wrappers
// (draft-ietf-rats-msg-wrap): a message with its media type, as a CBOR record
// or a JSON record, and the X.509 extension that carries one. It reads records
// only, no collections and no tags, and says nothing about what is inside.
package cmw

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"omega/internal/cbor"
	"omega/internal/strictjson"
)

// Kinds of conceptual messages, as bits of Record.Kind (section "CM Type").
const (
	ReferenceValues    = 1 << 0
	Endorsements       = 1 << 1
	Evidence           = 1 << 2
	AttestationResults = 1 << 3
	AppraisalPolicy    = 1 << 4

	allKinds = ReferenceValues | Endorsements | Evidence | AttestationResults | AppraisalPolicy
)

// Bounds of a record.
const (
	MaxRecord    = 1 << 20
	maxMediaType = 256
)

// MaxExtension bounds the record in a certificate: TLS stacks on small devices
// take 16 KiB for a whole certificate message.
const MaxExtension = 14 << 10

// OID is the extension of TCG's DICE Attestation Architecture that RA-TLS
// libraries look for, tcg-dice-conceptual-message-wrapper. As with them, its
// value is the CBOR itself, and it is not critical, because TLS libraries refuse
// certificates with critical extensions that they do not know.
func OID() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 23, 133, 5, 4, 9} }

// ErrAbsent reports a certificate that carries no wrapper.
var ErrAbsent = errors.New("the certificate carries no evidence (no extension 2.23.133.5.4.9)")

// A Record is one conceptual message.
type Record struct {
	// Type is the media type of the value.
	Type  string
	Value []byte
	// Kind says which conceptual messages the value holds, 0 if that is not said.
	Kind uint32
}

func (r *Record) check() error {
	if r.Type == "" || len(r.Type) > maxMediaType {
		return fmt.Errorf("cmw: a media type of %d bytes", len(r.Type))
	}
	for _, c := range []byte(r.Type) {
		if c < ' ' || c > '~' {
			return errors.New("cmw: a media type that is not printable ASCII")
		}
	}
	if r.Kind&^allKinds != 0 {
		return fmt.Errorf("cmw: kind %#x has unknown bits", r.Kind)
	}
	return nil
}

// MarshalCBOR writes the record as a CBOR array.
func (r *Record) MarshalCBOR() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	fields := []any{r.Type, r.Value}
	if r.Kind != 0 {
		fields = append(fields, int64(r.Kind))
	}
	return cbor.Encode(fields)
}

// ParseCBOR reads a record from deterministic CBOR. A content format in place
// of a media type is refused: no registered one is spoken here.
func ParseCBOR(b []byte) (*Record, error) {
	v, err := cbor.Decode(b, MaxRecord)
	if err != nil {
		return nil, fmt.Errorf("cmw: %w", err)
	}
	if tag, ok := v.(cbor.Tag); ok {
		return nil, fmt.Errorf("cmw: CBOR tag %d, want a record", tag.Number)
	}
	fields, ok := v.([]any)
	if !ok || len(fields) < 2 || len(fields) > 3 {
		return nil, errors.New("cmw: want an array of type, value and perhaps kind")
	}
	var r Record
	if r.Type, ok = fields[0].(string); !ok {
		return nil, fmt.Errorf("cmw: type is %T, want a media type", fields[0])
	}
	if r.Value, ok = fields[1].([]byte); !ok {
		return nil, fmt.Errorf("cmw: value is %T, want bytes", fields[1])
	}
	if len(fields) == 3 {
		kind, ok := fields[2].(int64)
		if !ok || kind <= 0 || kind > math.MaxUint32 {
			return nil, errors.New("cmw: kind is not a positive 32-bit number")
		}
		r.Kind = uint32(kind)
	}
	return &r, r.check()
}

// MarshalJSON writes the record as a JSON array.
func (r *Record) MarshalJSON() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	fields := []any{r.Type, base64.RawURLEncoding.EncodeToString(r.Value)}
	if r.Kind != 0 {
		fields = append(fields, r.Kind)
	}
	return strictjson.Canonical(fields)
}

// ParseJSON reads a record from a JSON array.
func ParseJSON(b []byte) (*Record, error) {
	var fields []json.RawMessage
	if err := strictjson.Decode(b, &fields, strictjson.Limits{MaxBytes: MaxRecord}); err != nil {
		return nil, fmt.Errorf("cmw: %w", err)
	}
	if len(fields) < 2 || len(fields) > 3 {
		return nil, errors.New("cmw: want an array of type, value and perhaps kind")
	}
	var r Record
	var value string
	if json.Unmarshal(fields[0], &r.Type) != nil || fields[0][0] != '"' || json.Unmarshal(fields[1], &value) != nil || fields[1][0] != '"' {
		return nil, errors.New("cmw: type and value are not texts")
	}
	var err error
	if r.Value, err = base64.RawURLEncoding.Strict().DecodeString(value); err != nil || bytes.ContainsAny([]byte(value), "\r\n") {
		return nil, errors.New("cmw: value is not base64url without padding")
	}
	if len(fields) == 3 {
		if err := json.Unmarshal(fields[2], &r.Kind); err != nil || r.Kind == 0 {
			return nil, errors.New("cmw: kind is not a positive 32-bit number")
		}
	}
	return &r, r.check()
}

// Extension is the certificate extension that carries the record.
func (r *Record) Extension() (pkix.Extension, error) {
	value, err := r.MarshalCBOR()
	if err != nil {
		return pkix.Extension{}, err
	}
	if len(value) > MaxExtension {
		return pkix.Extension{}, fmt.Errorf("cmw: %d bytes are too many for a certificate, limit %d", len(value), MaxExtension)
	}
	return pkix.Extension{Id: OID(), Value: value}, nil
}

// FromCertificate reads the record that a certificate carries; ErrAbsent where
// there is none.
func FromCertificate(c *x509.Certificate) (*Record, error) {
	var value []byte
	for _, e := range c.Extensions {
		if !e.Id.Equal(OID()) {
			continue
		}
		if value != nil {
			return nil, errors.New("cmw: the extension stands twice in the certificate")
		}
		value = e.Value
	}
	if value == nil {
		return nil, ErrAbsent
	}
	if len(value) > MaxExtension {
		return nil, fmt.Errorf("cmw: an extension of %d bytes, limit %d", len(value), MaxExtension)
	}
	return ParseCBOR(value)
}
