package snp

import (
	"testing"

	"omega/attest"
)

// TestEachNamedBitIsDemandedInBothDirections holds every named bit, set and
// clear, against a policy that wants it set and one that wants it clear.
func TestEachNamedBitIsDemandedInBothDirections(t *testing.T) {
	type bit struct {
		name, check string
		report      func(set bool) Report
		demand      func(Bits) Policy
	}
	var bits []bit
	for name, b := range policyNames {
		bits = append(bits, bit{name, "guest_policy_bits", func(set bool) Report {
			r := Report{GuestPolicy: ^b &^ (PolicyDebug | PolicyMigrateMA), PlatformInfo: PlatformAliasCheck}
			if set {
				r.GuestPolicy = b
			}
			return r
		}, func(d Bits) Policy { return Policy{GuestPolicy: d} }})
	}
	for name, b := range platformNames {
		bits = append(bits, bit{name, "platform_bits", func(set bool) Report {
			if set {
				return Report{PlatformInfo: b}
			}
			return Report{PlatformInfo: ^b}
		}, func(d Bits) Policy { return Policy{Platform: d} }})
	}
	if len(bits) != 14 {
		t.Errorf("%d bits have names", len(bits))
	}
	for _, b := range bits {
		for _, set := range []bool{false, true} {
			r := b.report(set)
			for wantSet, d := range map[bool]Bits{true: {Set: []string{b.name}}, false: {Clear: []string{b.name}}} {
				p := b.demand(d)
				if err := p.checkBits(); err != nil {
					t.Fatal(err)
				}
				if refused := failures(p.Check(&Verified{Report: &r, Product: Milan}))[b.check]; refused != (set != wantSet) {
					t.Errorf("%s %s: set %v, wanted %v: refused %v", b.check, b.name, set, wantSet, refused)
				}
			}
		}
	}
}

func TestBitsThatMeanNothingAreNoPolicy(t *testing.T) {
	for _, fields := range []string{
		`"guest_policy":{"set":["tsme"]}`, `"guest_policy":{"clear":["debug"]}`, `"platform_info":{"set":["TSME"]}`,
		`"platform_info":{"set":["ecc"],"clear":["ecc"]}`, `"platform_info":{"sets":["ecc"]}`,
	} {
		if _, err := ParsePolicy([]byte(`{"version":"omega/snp-policy/v1",` + fields + `}`)); err == nil {
			t.Errorf("%s is accepted", fields)
		}
	}
	p, err := ParsePolicy([]byte(`{"version":"omega/snp-policy/v1","guest_policy":{"set":["single-socket"],"clear":["smt"]},"platform_info":{"set":["ecc","tsme"],"clear":["smt"]}}`))
	if err != nil || len(p.Platform.Set) != 2 || p.GuestPolicy.Clear[0] != "smt" {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestTheIDBlocksKeysAreThoseThatThePolicyNames(t *testing.T) {
	key, other, author := attest.Bytes48{1}, attest.Bytes48{2}, attest.Bytes48{3}
	for _, tt := range []struct {
		name   string
		report Report
		policy Policy
		want   string
	}{
		{"no demand", Report{}, Policy{}, ""},
		{"the key", Report{IDKeyDigest: key}, Policy{IDKeys: []attest.Bytes48{other, key}}, ""},
		{"another key", Report{IDKeyDigest: other}, Policy{IDKeys: []attest.Bytes48{key}}, "id_key"},
		{"no ID block", Report{}, Policy{IDKeys: []attest.Bytes48{key}}, "id_key"},
		{"no ID block, and a policy that names none", Report{}, Policy{IDKeys: []attest.Bytes48{{}}}, "id_key"},
		{"the author", Report{AuthorKeyEn: true, AuthorKeyDigest: author}, Policy{AuthorKeys: []attest.Bytes48{author}}, ""},
		{"another author", Report{AuthorKeyEn: true, AuthorKeyDigest: key}, Policy{AuthorKeys: []attest.Bytes48{author}}, "author_key"},
		{"an author that was not there", Report{AuthorKeyDigest: author}, Policy{AuthorKeys: []attest.Bytes48{author}}, "author_key"},
		{"no author", Report{AuthorKeyEn: true}, Policy{AuthorKeys: []attest.Bytes48{{}}}, "author_key"},
	} {
		got := failures(tt.policy.Check(&Verified{Report: &tt.report, Product: Milan}))
		if got["id_key"] != (tt.want == "id_key") || got["author_key"] != (tt.want == "author_key") {
			t.Errorf("%s: failures are %v", tt.name, got)
		}
	}
}
