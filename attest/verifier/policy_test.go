package verifier_test

import (
	"errors"
	"strings"
	"testing"

	"omega/attest"
	"omega/attest/snp"
	"omega/attest/verifier"
)

var annsKey, bobsKey = ann.ID(), bob.ID()

// policyOf reads the policy with these fields beside its version.
func policyOf(t testing.TB, fields string) *verifier.Policy {
	t.Helper()
	p, err := verifier.ParsePolicy([]byte(`{"version":"omega/appraisal-policy/v1"` + fields + `}`))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAPlatformMeetsTheAppraisalPolicyOrIsRefused(t *testing.T) {
	bundle := "sha256:09" + strings.Repeat("0", 62)
	bound := `"08` + strings.Repeat("0", 62) + `"`
	people := `,"principals":[{"name":"mia","key_ids":["` + mia.ID() + `"]},{"name":"ann","key_ids":["` + annsKey + `"]`
	annOnly := people + `}]`
	both := people[:len(people)-1] + `,"` + bobsKey + `"],"threshold":2}]`
	nothing := func(*world) {}
	tests := []struct {
		name   string
		policy string
		change func(*world)
		check  string // the one that fails
	}{
		{"no demands", "", nothing, ""},
		{"an agent that runs", `,"must_run":["demo"]`, nothing, ""},
		{"a bundle that runs", `,"must_run":["` + bundle + `"]`, nothing, ""},
		{"one of two runs", `,"must_run":["demo"]`, func(w *world) { w.e.Agents[1].State = attest.AgentExited }, ""},
		{"none runs any more", `,"must_run":["demo"]`, func(w *world) {
			w.e.Agents[0].State, w.e.Agents[1].State = attest.AgentExited, attest.AgentFailed
		}, "must_run"},
		{"an agent that was never there", `,"must_run":["other"]`, nothing, "must_run"},
		{"an instance is no name", `,"must_run":["a-1"]`, nothing, "must_run"},
		{"a refused agent that is not there", `,"must_not_run":["other"]`, nothing, ""},
		{"a refused agent", `,"must_not_run":["demo"]`, nothing, "must_not_run"},
		{"a refused bundle", `,"must_not_run":["` + bundle + `"]`, nothing, "must_not_run"},
		{"a refused agent that has run", `,"must_not_run":["demo"]`, func(w *world) {
			w.e.Agents[0].State, w.e.Agents[1].State = attest.AgentExited, attest.AgentStopped
		}, "must_not_run"},
		{"the principal's key", annOnly, nothing, ""},
		{"another key of the principal", annOnly, func(w *world) { resign(w, bob) }, "principals"},
		{"two keys where one is named", annOnly, func(w *world) { resign(w, bob, ann) }, ""},
		{"one key where two are wanted", both, nothing, "principals"},
		{"two keys where two are wanted", both, func(w *world) { resign(w, bob, ann) }, ""},
		{"another principal", `,"principals":[{"name":"bob","key_ids":["` + annsKey + `"]}]`, nothing, "principals"},
		{"an unbound config", `,"require_bound_config":true`, nothing, "launch_config"},
		{"a bound config", `,"require_bound_config":true`, func(w *world) { w.launch.HostData = w.e.Boot.ConfigDigest }, ""},
		{"a listed config", `,"launch_configs":[` + bound + `]`, func(w *world) { w.launch.HostData = w.e.Boot.ConfigDigest }, ""},
		{"a listed config that is not bound", `,"launch_configs":[` + bound + `]`, nothing, "launch_config"},
		{"zero is no bound config", `,"launch_configs":["` + strings.Repeat("0", 64) + `"]`, nothing, "launch_config"},
		{"a config that is not listed", `,"launch_configs":["` + annsKey + `"]`, func(w *world) { w.launch.HostData = w.e.Boot.ConfigDigest }, "launch_config"},
		{"an older release", `,"min_svn":2`, nothing, "svn"},
		{"the caller's SVN stands", `,"min_svn":0`, func(w *world) { w.p.MinSVN = 2 }, "svn"},
		{"a debug release", "", func(w *world) { w.e.Boot.Profile, w.p.Manifest.Predicate.Profile = "debug", "debug" }, "debug"},
		{"a debug release, allowed", `,"allow_debug_profile":true`, func(w *world) { w.e.Boot.Profile, w.p.Manifest.Predicate.Profile = "debug", "debug" }, ""},
		{"a debuggable guest, allowed", `,"report":{"version":"omega/snp-policy/v1","allow_debug":true}`, func(w *world) { w.launch.GuestPolicy = uint64(snp.PolicyStrict | snp.PolicyDebug) }, ""},
		{"a debuggable guest", `,"report":{"version":"omega/snp-policy/v1"}`, func(w *world) { w.launch.GuestPolicy = uint64(snp.PolicyStrict | snp.PolicyDebug) }, "guest_policy"},
		{"another measurement", `,"report":{"version":"omega/snp-policy/v1","measurements":["` + strings.Repeat("0", 96) + `"]}`, nothing, "measurement"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.change(w)
			w.seal()
			w.p.Policy = policyOf(t, tt.policy)
			r, err := verifier.Appraise(w.e, w.p)
			if got := failed(r); got != tt.check || (err != nil) != (tt.check != "") || err != nil && !errors.Is(err, verifier.ErrMismatch) {
				t.Errorf("%q failed, want %q: %v", got, tt.check, err)
			}
		})
	}
}

// resign has other keys vouch for what ann vouches for.
func resign(w *world, keys ...signingKey) {
	for i := range w.e.Agents {
		g := &w.e.Agents[i]
		for n := range g.Components {
			if c := &g.Components[n]; c.Principal == "ann" {
				c.Signatures = nil
				for _, k := range keys {
					c.Signatures = append(c.Signatures, k.vouch(g.Bundle, "author", "ann"))
				}
			}
		}
		reseal(g)
	}
}

func TestEveryRelaxationIsNamedInTheResult(t *testing.T) {
	w := newWorld(t)
	w.p.Policy = policyOf(t, `,"allow_debug_profile":true,"report":{"version":"omega/snp-policy/v1","allow_migration":true}`)
	r, err := verifier.Appraise(w.e, w.p)
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, c := range r.Checks {
		if c.Name == "relaxed" && c.Status == attest.NotProven {
			named[c.Words[strings.LastIndex(c.Words, "("):]] = true
		}
	}
	if len(named) != 2 || !named["(allow_debug_profile)"] || !named["(allow_migration)"] {
		t.Errorf("relaxations named: %v", named)
	}
}

func TestAPolicyThatMeansNothingIsRefused(t *testing.T) {
	const v = `"version":"omega/appraisal-policy/v1"`
	for _, text := range []string{
		"", "{}", `{"version":"omega/snp-policy/v1"}`, `{` + v + `,"min_svnn":1}`, `{` + v + `} ` + `x`, `{` + v + `,` + v + `}`,
		`{` + v + `,"must_run":[""]}`, `{` + v + `,"must_run":["sha256:1"]}`, `{` + v + `,"must_run":["a"],"must_not_run":["a"]}`,
		`{` + v + `,"principals":[{"name":"","key_ids":["` + annsKey + `"]}]}`, `{` + v + `,"principals":[{"name":"a","key_ids":[]}]}`,
		`{` + v + `,"principals":[{"name":"a","key_ids":["` + annsKey + `"]},{"name":"a","key_ids":["` + bobsKey + `"]}]}`,
		`{` + v + `,"launch_configs":["00"]}`, `{` + v + `,"report":{}}`, `{` + v + `,"report":{"version":"omega/snp-policy/v1","allow":true}}`,
		`{` + v + `,"report":{"version":"omega/snp-policy/v1","report_data":"` + strings.Repeat("0", 128) + `"}}`,
	} {
		if _, err := verifier.ParsePolicy([]byte(text)); err == nil {
			t.Errorf("%s is accepted", text)
		}
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte(`{"version":"omega/appraisal-policy/v1","must_run":["a"],"report":{"version":"omega/snp-policy/v1"}}`))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = verifier.ParsePolicy(b) })
}
