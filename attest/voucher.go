package attest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"omega/internal/dsse"
	"omega/internal/share"
)

// A Voucher verifies the signatures of many components, each signature once
// however many components it stands behind. The zero Voucher is ready.
type Voucher struct {
	// verified are the signatures that are valid, by their signed bytes.
	verified map[string][]stated
}

// stated is what a signature that is valid says.
type stated struct {
	sig   *Signature
	keyID Bytes32
	about vouched
}

// Vouched verifies the component's signatures: each is its principal's, in its
// role, about its digest or about the agent bundle that names it. Whether the
// keys are the principal's is for a policy to say.
func (v *Voucher) Vouched(c *Component, bundle Bytes32) error {
	if len(c.Signatures) == 0 {
		return fmt.Errorf("%w: %s %q: principal %q has not signed it as %q", ErrUnvouched, c.Kind, c.Name, c.Principal, c.Role)
	}
	seen := make([]Bytes32, 0, maxSignatures)
	for i := range c.Signatures {
		s, err := v.read(&c.Signatures[i])
		if err == nil {
			err = s.about.vouches(c, bundle)
		}
		for _, id := range seen {
			if err == nil && id == s.keyID {
				err = errors.New("the same key twice")
			}
		}
		if err != nil {
			return fmt.Errorf("%w: %s %q of principal %q, key %s: %w", ErrUnvouched, c.Kind, c.Name, c.Principal, c.Signatures[i].KeyID(), err)
		}
		seen = append(seen, s.keyID)
	}
	return nil
}

// Ahead verifies the signatures of components that Vouched will be asked about,
// on all processors. It need not be called.
func (v *Voucher) Ahead(all []*Component) {
	var todo []*Signature
	for _, c := range all {
		for i := range c.Signatures {
			s := &c.Signatures[i]
			if !slices.ContainsFunc(todo, func(t *Signature) bool { return t.same(s) }) && len(todo) < maxAhead {
				todo = append(todo, s)
			}
		}
	}
	out, errs := make([]stated, len(todo)), make([]error, len(todo))
	share.Each(len(todo), 1, func(i int) { out[i], errs[i] = verifySignature(todo[i]) })
	for i := range out {
		if errs[i] == nil { // what is refused is refused again, in its place
			v.keep(out[i])
		}
	}
}

// maxAhead bounds what is verified ahead, and the search for what is the same.
const maxAhead = 256

func (s *Signature) same(other *Signature) bool {
	return bytes.Equal(s.Sig, other.Sig) && bytes.Equal(s.Payload, other.Payload) && bytes.Equal(s.Key, other.Key)
}

// read is what a signature says, if it is valid.
func (v *Voucher) read(s *Signature) (stated, error) {
	for _, before := range v.verified[string(s.Payload)] {
		if before.sig.same(s) {
			return before, nil
		}
	}
	out, err := verifySignature(s)
	if err == nil {
		v.keep(out)
	}
	return out, err
}

func (v *Voucher) keep(s stated) {
	if v.verified == nil {
		v.verified = map[string][]stated{}
	}
	v.verified[string(s.sig.Payload)] = append(v.verified[string(s.sig.Payload)], s)
}

func verifySignature(s *Signature) (stated, error) {
	key, err := dsse.ParseKey(s.Key)
	if err != nil {
		return stated{}, err
	}
	read := readStatement
	switch {
	case key.Signed(principalPayload, s.Payload, s.Sig):
	case key.SignedBare(s.Payload, s.Sig): // cosign's older form
		read = readSimpleSigning
	default:
		return stated{}, errors.New("the signature is not valid")
	}
	about, err := read(s.Payload)
	if err != nil {
		return stated{}, err
	}
	return stated{s, key.ID, about}, nil
}
