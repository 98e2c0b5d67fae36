package main

import (
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"omega/agentloader"
	"omega/attest"
	"omega/internal/dsse"
	"omega/policy"
)

// revoked holds what is to be admitted against the revocation list of the
// launch config. Where the measured policy names who may revoke, a current list
// by them is needed for every admission: a host that keeps the list back, or
// gives an old one, gets no agent started.
type revoked struct {
	by   []attest.RevocationKeys // one for each principal with the role
	list []byte
	now  func() time.Time
}

// newRevoked reads the revokers' keys out of the policy.
func newRevoked(d *policy.Document, list []byte, now func() time.Time) (*revoked, error) {
	r := &revoked{list: list, now: now}
	for _, p := range d.Principals {
		if !slices.Contains(p.Roles, policy.RoleRevoker) {
			continue
		}
		keys := attest.RevocationKeys{Threshold: p.Threshold}
		for _, k := range p.Keys {
			block, _ := pem.Decode([]byte(k.PEM))
			if block == nil {
				return nil, fmt.Errorf("revoker %q: key is not PEM", p.Name)
			}
			key, err := dsse.ParseKey(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("revoker %q: %w", p.Name, err)
			}
			keys.Keys = append(keys.Keys, key)
		}
		r.by = append(r.by, keys)
	}
	return r, nil
}

// until is the time after which the list admits nothing; zero where none is
// demanded. Whoever was admitted is not started again after it.
func (r *revoked) until() (time.Time, error) {
	if len(r.by) == 0 {
		return time.Time{}, nil
	}
	list, err := r.read()
	if err != nil {
		return time.Time{}, err
	}
	return list.Expires, nil
}

var errRevoked = errors.New("revoked")

// check says why a bundle with these components is refused.
func (r *revoked) check(d agentloader.Digest, components []agentloader.Component) error {
	if len(r.by) == 0 {
		return nil
	}
	if len(r.list) == 0 {
		return fmt.Errorf("%w: the policy demands a revocation list, and the launch config has none", errRevoked)
	}
	list, err := r.read()
	if err != nil {
		return err
	}
	if list.Refused(attest.Bytes32(d), attest.Bytes32{}) {
		return fmt.Errorf("%w: agent bundle %s is on list %d", errRevoked, d, list.Serial)
	}
	for _, c := range components {
		part := attest.Component{Kind: c.Kind, Name: c.Name, Digest: attest.Bytes32(c.Digest), Principal: c.Principal, Signatures: signaturesOf(c)}
		if why := list.RefusedPart(&part); why != "" {
			return fmt.Errorf("%w: %s, by list %d", errRevoked, why, list.Serial)
		}
	}
	return nil
}

// read is the list, if one of the revokers signed it and it has not expired.
func (r *revoked) read() (*attest.Revocations, error) {
	var last error
	for _, by := range r.by {
		list, err := attest.ParseRevocations(r.list, by)
		if err == nil {
			return list, list.Current(r.now())
		}
		last = err
	}
	return nil, last
}
