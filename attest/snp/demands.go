package snp

import (
	"fmt"
	"slices"
	"strings"

	"omega/attest"
)

// Bits demands named bits to be set or clear.
type Bits struct {
	Set   []string `json:"set"`
	Clear []string `json:"clear"`
}

// checkBits refuses names that are not known and demands that nothing meets.
func (p *Policy) checkBits() error {
	for _, d := range []struct {
		field string
		bits  Bits
		known func(string) bool
	}{
		{"guest_policy", p.GuestPolicy, func(n string) bool { return policyNames[n] != 0 }},
		{"platform_info", p.Platform, func(n string) bool { return platformNames[n] != 0 }},
	} {
		for _, n := range slices.Concat(d.bits.Set, d.bits.Clear) {
			if !d.known(n) {
				return fmt.Errorf("%s: bit %.40q is not known", d.field, n)
			}
			if slices.Contains(d.bits.Set, n) && slices.Contains(d.bits.Clear, n) {
				return fmt.Errorf("%s: bit %q must be set and clear", d.field, n)
			}
		}
	}
	return nil
}

// bitChecks hold POLICY and PLATFORM_INFO against what is demanded of them.
func (p *Policy) bitChecks(r *Report) []attest.Check {
	var out []attest.Check
	for _, d := range []struct {
		name, words string
		bits        Bits
		set         func(string) bool
	}{
		{"guest_policy_bits", "the guest policy is what the appraisal policy demands", p.GuestPolicy,
			func(n string) bool { return r.GuestPolicy&policyNames[n] != 0 }},
		{"platform_bits", "the machine is in the state that the appraisal policy demands", p.Platform,
			func(n string) bool { return r.PlatformInfo&platformNames[n] != 0 }},
	} {
		var want, have []string
		ok := true
		for _, n := range d.bits.Set {
			want, have = append(want, n+" set"), append(have, state(n, d.set(n)))
			ok = ok && d.set(n)
		}
		for _, n := range d.bits.Clear {
			want, have = append(want, n+" clear"), append(have, state(n, d.set(n)))
			ok = ok && !d.set(n)
		}
		if len(want) > 0 {
			out = append(out, attest.Compare(ok, attest.Check{Name: d.name, Expected: strings.Join(want, ", "), Found: strings.Join(have, ", "), Words: d.words}))
		}
	}
	return out
}

func state(name string, set bool) string {
	if set {
		return name + " set"
	}
	return name + " clear"
}

// keyChecks hold who signed the ID block against the policy. The digests are
// zero where the guest was launched without one, and zero is nobody's.
func (p *Policy) keyChecks(r *Report) []attest.Check {
	var out []attest.Check
	for _, d := range []struct {
		name, words string
		want        []attest.Bytes48
		found       attest.Bytes48
		there       bool
	}{
		{"id_key", "the ID block was signed by a key that the appraisal policy names", p.IDKeys, r.IDKeyDigest, true},
		{"author_key", "the key of the ID block was signed by an author that the appraisal policy names", p.AuthorKeys, r.AuthorKeyDigest, r.AuthorKeyEn},
	} {
		if len(d.want) > 0 {
			ok := d.there && d.found != attest.Bytes48{} && slices.Contains(d.want, d.found)
			out = append(out, attest.Compare(ok, attest.Check{Name: d.name, Expected: fmt.Sprintf("one of %d keys", len(d.want)), Found: d.found.String(), Words: d.words}))
		}
	}
	return out
}
