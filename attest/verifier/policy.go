package verifier

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"omega/attest"
	"omega/attest/snp"
	"omega/internal/strictjson"
)

// PolicyVersion is the format of an appraisal policy for platforms.
const PolicyVersion = "omega/appraisal-policy/v1"

// maxRules bounds each list of an appraisal policy.
const maxRules = 1024

// Policy is an appraisal policy for platforms: what a Relying Party demands
// beyond what every platform must prove. The zero value demands nothing more.
type Policy struct {
	// Report is the policy for the SNP report; strict where it is not given.
	Report snp.Policy
	// MinSVN is the lowest SVN of a release that is accepted.
	MinSVN uint32
	// AllowDebugProfile gives up that no shell is inside.
	AllowDebugProfile bool
	// LaunchConfigs, if given, are the digests of launch configs that may be
	// bound by HOST_DATA. RequireBoundConfig demands that one is.
	LaunchConfigs      []attest.Bytes32
	RequireBoundConfig bool
	// Agents are named by their name, or by their agent bundle as sha256:HEX.
	// MustRun have to be running; MustNotRun may not have been admitted in this
	// boot.
	MustRun, MustNotRun []string
	// Principals, if given, are all who may vouch for a part of an agent.
	Principals []PrincipalKeys
}

// PrincipalKeys are the keys of a principal, by the SHA-256 of each one's
// SubjectPublicKeyInfo.
type PrincipalKeys struct {
	Name   string           `json:"name"`
	KeyIDs []attest.Bytes32 `json:"key_ids"`
}

// policyFile is the policy as it is written.
type policyFile struct {
	Version            string           `json:"version"`
	Report             json.RawMessage  `json:"report,omitempty"`
	MinSVN             uint32           `json:"min_svn"`
	AllowDebugProfile  bool             `json:"allow_debug_profile"`
	RequireBoundConfig bool             `json:"require_bound_config"`
	LaunchConfigs      []attest.Bytes32 `json:"launch_configs"`
	MustRun            []string         `json:"must_run"`
	MustNotRun         []string         `json:"must_not_run"`
	Principals         []PrincipalKeys  `json:"principals"`
}

// ParsePolicy reads an appraisal policy from strict JSON.
func ParsePolicy(b []byte) (*Policy, error) {
	var f policyFile
	if err := strictjson.Decode(b, &f, strictjson.Limits{}); err != nil {
		return nil, fmt.Errorf("appraisal policy: %w", err)
	}
	if f.Version != PolicyVersion {
		return nil, fmt.Errorf("appraisal policy: version %.40q, want %q", f.Version, PolicyVersion)
	}
	p := &Policy{
		Report: snp.DefaultPolicy(), MinSVN: f.MinSVN, AllowDebugProfile: f.AllowDebugProfile, LaunchConfigs: f.LaunchConfigs,
		RequireBoundConfig: f.RequireBoundConfig, MustRun: f.MustRun, MustNotRun: f.MustNotRun, Principals: f.Principals,
	}
	if f.Report != nil {
		r, err := snp.ParsePolicy(f.Report)
		if err != nil {
			return nil, fmt.Errorf("report: %w", err)
		}
		p.Report = *r
	}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("appraisal policy: %w", err)
	}
	return p, nil
}

// check refuses rules that nothing can meet or that demand nothing.
func (p *Policy) check() error {
	if p.Report.ReportData != nil {
		return errors.New("report_data binds a fresh nonce: no policy can know it")
	}
	if len(p.LaunchConfigs) > maxRules || len(p.MustRun) > maxRules || len(p.MustNotRun) > maxRules || len(p.Principals) > maxRules {
		return fmt.Errorf("a list of more than %d", maxRules)
	}
	for _, name := range slices.Concat(p.MustRun, p.MustNotRun) {
		digest, isDigest := strings.CutPrefix(name, "sha256:")
		var d attest.Bytes32
		if name == "" || isDigest && d.UnmarshalText([]byte(digest)) != nil {
			return fmt.Errorf("agent %.80q: want a name, or sha256: and 64 lower-case hex digits", name)
		}
		if slices.Contains(p.MustRun, name) && slices.Contains(p.MustNotRun, name) {
			return fmt.Errorf("agent %.80q must and must not run", name)
		}
	}
	seen := map[string]bool{}
	for _, r := range p.Principals {
		if r.Name == "" || seen[r.Name] || len(r.KeyIDs) == 0 || len(r.KeyIDs) > maxRules {
			return fmt.Errorf("principal %.80q: want each one once, with keys", r.Name)
		}
		seen[r.Name] = true
	}
	return nil
}

// Relaxations says in words what the policy gives up of what is the default.
func (p *Policy) Relaxations() []string {
	out := p.Report.Relaxations()
	if p.AllowDebugProfile {
		out = append(out, "the image may have a shell inside (allow_debug_profile)")
	}
	return out
}

// demands holds the evidence against what the policy asks for beyond the rest.
func (a *appraisal) demands() {
	p := a.p.Policy
	if p == nil {
		return
	}
	for _, words := range p.Relaxations() {
		a.say("relaxed", words)
	}
	if p.RequireBoundConfig || len(p.LaunchConfigs) > 0 {
		a.launchConfig(p)
	}
	for _, name := range p.MustRun {
		state := stateOf(a.e.Agents, name, true)
		a.compare(state == attest.AgentRunning, attest.Check{
			Name: "must_run", Expected: name + " is running", Found: name + ": " + orNone(state), Words: "an agent that has to run",
		})
	}
	for _, name := range p.MustNotRun {
		state := stateOf(a.e.Agents, name, false)
		a.compare(state == "", attest.Check{
			Name: "must_not_run", Expected: name + " was not admitted in this boot", Found: name + ": " + orNone(state), Words: "an agent that must not run",
		})
	}
	if len(p.Principals) > 0 {
		a.principals(p)
	}
}

func (a *appraisal) launchConfig(p *Policy) {
	found := attest.Bytes32(a.report.HostData)
	c := attest.Check{Name: "launch_config", Expected: "a launch config that HOST_DATA binds", Found: found.String(), Words: "the launch config is one that the appraisal policy accepts"}
	ok := !found.IsZero()
	if len(p.LaunchConfigs) > 0 {
		c.Expected = fmt.Sprintf("one of %d launch configs of the appraisal policy", len(p.LaunchConfigs))
		ok = ok && slices.Contains(p.LaunchConfigs, found)
	}
	a.compare(ok, c)
}

// stateOf is the state of the agent with that name or agent bundle: of one that
// runs, if there is one and it is asked for.
func stateOf(agents []attest.Agent, name string, running bool) string {
	state := ""
	for i := range agents {
		if g := &agents[i]; g.Name == name || "sha256:"+g.Bundle.String() == name {
			state = g.State
			if running && state == attest.AgentRunning {
				return state
			}
		}
	}
	return state
}

// measuredKinds are parts that the image itself vouches for, with no key.
var measuredKinds = []string{"policy", "sandbox"}

// principals: every part of every agent is vouched for by keys that the policy
// names for that principal. Which key it was is the platform's claim; the
// measured image checked the signature.
func (a *appraisal) principals(p *Policy) {
	keys := map[string][]attest.Bytes32{}
	for _, r := range p.Principals {
		keys[r.Name] = r.KeyIDs
	}
	for i := range a.e.Agents {
		g := &a.e.Agents[i]
		c := attest.Check{Name: "principals", Found: g.Instance, Words: "each part of the agent is vouched for by a key that the appraisal policy names"}
		ok := true
		for _, part := range g.Components {
			named := func(k attest.Bytes32) bool { return k.String() == part.KeyID }
			if part.KeyID == "" && slices.Contains(measuredKinds, part.Kind) || slices.ContainsFunc(keys[part.Principal], named) {
				continue
			}
			ok = false
			c.Expected = "a key that the appraisal policy names for the principal"
			c.Found = fmt.Sprintf("%s of %s: principal %q, key %s", part.Kind, g.Instance, part.Principal, orNone(part.KeyID))
			break
		}
		a.compare(ok, c)
	}
}
