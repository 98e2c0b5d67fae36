package bundle

import (
	"slices"

	"omega/internal/dsse"
)

// An Envelope is a DSSE envelope; here it is always one of an in-toto statement.
type Envelope = dsse.Envelope

// Signature is one signature of an envelope.
type Signature = dsse.Signature

// PAE is the byte string that a DSSE signature covers.
func PAE(payloadType string, payload []byte) []byte { return dsse.PAE(payloadType, payload) }

// ParseEnvelope reads a DSSE envelope of an in-toto statement.
func ParseEnvelope(b []byte) (*Envelope, error) { return dsse.Parse(b, TypePayload, MaxSignature) }

// signersOf returns the IDs of the keys that made one of the signatures, each once and at least one.
func signersOf(e *Envelope, keys []Key) ([]string, error) {
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
