package bundle

import (
	"fmt"
	"slices"
	"strconv"

	"omega/internal/strictjson"
)

// Envelope is a DSSE envelope (secure-systems-lab/dsse v1.0.2, envelope.md). Its byte strings are
// standard base64 in JSON.
type Envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     []byte      `json:"payload"`
	Signatures  []Signature `json:"signatures"`
}

// Signature is one signature of an envelope. KeyID is a hint and is never believed.
type Signature struct {
	KeyID string `json:"keyid,omitempty"`
	Sig   []byte `json:"sig"`
}

// maxSignatures bounds the work that one envelope can cause.
const maxSignatures = 8

// PAE is the byte string that a DSSE signature covers (dsse v1.0.2, protocol.md).
func PAE(payloadType string, payload []byte) []byte {
	b := []byte("DSSEv1 ")
	b = strconv.AppendInt(b, int64(len(payloadType)), 10)
	b = append(b, ' ')
	b = append(b, payloadType...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(len(payload)), 10)
	b = append(b, ' ')
	return append(b, payload...)
}

// ParseEnvelope reads a DSSE envelope of an in-toto statement.
func ParseEnvelope(b []byte) (*Envelope, error) {
	e := new(Envelope)
	if err := strictjson.Decode(b, e, strictjson.Limits{MaxBytes: MaxSignature}); err != nil {
		return nil, fmt.Errorf("envelope: %w", err)
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *Envelope) check() error {
	if e.PayloadType != TypePayload {
		return fmt.Errorf("envelope: payload type %.80q, not %q", e.PayloadType, TypePayload)
	}
	if len(e.Signatures) == 0 || len(e.Signatures) > maxSignatures {
		return fmt.Errorf("envelope: %d signatures", len(e.Signatures))
	}
	return nil
}

// verify returns the IDs of the keys that made one of the signatures, each once and at least one.
func (e *Envelope) verify(keys []Key) ([]string, error) {
	message := PAE(e.PayloadType, e.Payload)
	var ids []string
	for _, k := range keys {
		made := func(s Signature) bool { return k.verify(message, s.Sig) }
		if !slices.Contains(ids, k.ID) && slices.ContainsFunc(e.Signatures, made) {
			ids = append(ids, k.ID)
		}
	}
	if len(ids) == 0 {
		return nil, ErrSignature
	}
	return ids, nil
}

// seal signs a statement into an envelope.
func seal(key *PrivateKey, payload []byte) (*Envelope, string, error) {
	sig, err := key.sign(PAE(TypePayload, payload))
	if err != nil {
		return nil, "", err
	}
	pub, err := key.Public()
	if err != nil {
		return nil, "", err
	}
	return &Envelope{PayloadType: TypePayload, Payload: payload, Signatures: []Signature{{Sig: sig}}}, pub.ID, nil
}
