package verifier

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"omega/attest"
	"omega/attest/snp"
	"omega/internal/dsse"
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
	// GPU is one of the GPU words; empty accepts platforms with and without.
	GPU string
	// GPUReport is what the evidence of a GPU must show.
	GPUReport GPUPolicy
	// ManifestKeys are SubjectPublicKeyInfos in DER: a manifest signed by one of
	// them is a release's.
	ManifestKeys [][]byte
	// MaxAge is how long an appraisal may be leaned on; zero means DefaultMaxAge.
	MaxAge time.Duration
	// Revocation says who may revoke, and whether a list is demanded.
	Revocation Revocation
}

// Revocation is what an appraisal policy says about revocation lists.
type Revocation struct {
	Required bool `json:"required"`
	// Keys are SubjectPublicKeyInfos in DER; Threshold of them have to sign a
	// list, zero means one.
	Keys      [][]byte `json:"keys"`
	Threshold int      `json:"threshold,omitempty"`
}

// PrincipalKeys are the keys of a principal, by the SHA-256 of each one's
// SubjectPublicKeyInfo.
type PrincipalKeys struct {
	Name   string           `json:"name"`
	KeyIDs []attest.Bytes32 `json:"key_ids"`
	// Threshold is how many of them must have signed; zero means one.
	Threshold int `json:"threshold,omitempty"`
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
	GPU                string           `json:"gpu"`
	GPUReport          GPUPolicy        `json:"gpu_report"`
	ManifestKeys       [][]byte         `json:"manifest_keys"`
	MaxAgeSeconds      uint32           `json:"max_age_seconds"`
	Revocation         Revocation       `json:"revocation"`
}

// GPUPolicy is what an appraisal policy says about the evidence of a GPU.
type GPUPolicy struct {
	MinDriver   string   `json:"min_driver"`
	VBIOS       []string `json:"vbios"`
	CC          string   `json:"cc"` // if-carried or required; empty: told, not judged
	GPUs        int      `json:"gpus"`
	RequireOCSP bool     `json:"require_ocsp"`
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
		GPU: f.GPU, GPUReport: f.GPUReport, ManifestKeys: f.ManifestKeys,
		MaxAge: time.Duration(f.MaxAgeSeconds) * time.Second, Revocation: f.Revocation,
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
		if r.Threshold < 0 || r.Threshold > len(r.KeyIDs) {
			return fmt.Errorf("principal %.80q: threshold %d of %d keys", r.Name, r.Threshold, len(r.KeyIDs))
		}
		seen[r.Name] = true
	}
	return p.checkKeys()
}

// checkKeys refuses keys that are none and demands that they cannot meet.
func (p *Policy) checkKeys() error {
	if p.GPU != GPUAny && p.GPU != GPURequired && p.GPU != GPUNone {
		return fmt.Errorf("gpu %.20q: want %q or %q", p.GPU, GPURequired, GPUNone)
	}
	if c := p.GPUReport.CC; c != "" && c != "if-carried" && c != "required" {
		return fmt.Errorf("gpu_report: cc %.20q", c)
	}
	if p.MaxAge > maxMaxAge {
		return fmt.Errorf("max_age_seconds: more than %s", maxMaxAge)
	}
	if _, err := p.RevocationKeys(); err != nil {
		return fmt.Errorf("revocation: %w", err)
	}
	for _, der := range p.ManifestKeys {
		if _, err := dsse.ParseKey(der); err != nil {
			return fmt.Errorf("manifest_keys: %w", err)
		}
	}
	return nil
}

// maxMaxAge bounds how long an appraisal may be leaned on.
const maxMaxAge = 31 * 24 * time.Hour

// RevocationKeys are the keys that may sign revocation lists.
func (p *Policy) RevocationKeys() (attest.RevocationKeys, error) {
	out := attest.RevocationKeys{Threshold: p.Revocation.Threshold}
	for _, der := range p.Revocation.Keys {
		k, err := dsse.ParseKey(der)
		if err != nil {
			return out, err
		}
		out.Keys = append(out.Keys, k)
	}
	if t := p.Revocation.Threshold; t < 0 || t > len(out.Keys) || p.Revocation.Required && len(out.Keys) == 0 {
		return out, fmt.Errorf("threshold %d of %d keys", t, len(out.Keys))
	}
	return out, nil
}

// Relaxations says in words what the policy gives up of what is the default.
func (p *Policy) Relaxations() []string {
	out := p.Report.Relaxations()
	if p.AllowDebugProfile {
		out = append(out, "the image may have a shell inside (allow_debug_profile)")
	}
	if p.MaxAge > DefaultMaxAge {
		out = append(out, fmt.Sprintf("an appraisal is leaned on for %s, longer than %s (max_age_seconds)", p.MaxAge, DefaultMaxAge))
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
		c := attest.Check{Name: "must_not_run", Expected: name + " was not admitted in this boot", Found: name + ": " + orNone(state), Words: "an agent that must not run"}
		if state == "" && a.nameless() {
			state, c.Found = "?", "agents that are not shown to you"
		}
		a.compare(state == "", c)
	}
	if len(p.Principals) > 0 {
		a.principals(p)
	}
}

func (a *appraisal) launchConfig(p *Policy) {
	found := a.hostData
	c := attest.Check{Name: "launch_config", Expected: "a launch config that HOST_DATA binds", Found: found.String(), Words: "the launch config is one that the appraisal policy accepts"}
	ok := !found.IsZero()
	if len(p.LaunchConfigs) > 0 {
		c.Expected = fmt.Sprintf("one of %d launch configs of the appraisal policy", len(p.LaunchConfigs))
		ok = ok && slices.Contains(p.LaunchConfigs, found)
	}
	a.compare(ok, c)
}

// nameless reports whether an agent's name is not shown: it could be any.
func (a *appraisal) nameless() bool {
	return a.e.Partial() || slices.ContainsFunc(a.e.Agents, func(g attest.Agent) bool { return !g.Shown() })
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

// principals: every part of every agent that is shown is vouched for by keys
// that the policy names for that principal.
func (a *appraisal) principals(p *Policy) {
	rules := map[string]PrincipalKeys{}
	for _, r := range p.Principals {
		rules[r.Name] = r
	}
	for i := range a.e.Agents {
		g := &a.e.Agents[i]
		if !g.Hidden.IsZero() {
			continue
		}
		c := attest.Check{Name: "principals", Found: title(g), Words: "each part of the agent is vouched for by keys that the appraisal policy names"}
		ok := true
		for n := range g.Components {
			part := &g.Components[n]
			if !part.Hidden.IsZero() || part.Measured() || rules[part.Principal].signed(part) {
				continue
			}
			ok = false
			c.Expected = "keys that the appraisal policy names for the principal"
			c.Found = fmt.Sprintf("%s of %s: principal %q, keys %s", part.Kind, title(g), part.Principal, orNone(strings.Trim(fmt.Sprint(part.KeyIDs()), "[]")))
			break
		}
		a.compare(ok, c)
	}
}

// signed reports whether enough of the keys have signed the component. The
// signatures themselves are verified elsewhere.
func (r PrincipalKeys) signed(c *attest.Component) bool {
	n := 0
	for _, id := range c.KeyIDs() {
		if slices.Contains(r.KeyIDs, id) {
			n++
		}
	}
	return n >= max(r.Threshold, 1)
}
