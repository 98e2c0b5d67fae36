package verifier

import (
	"fmt"
	"time"

	"omega/attest"
)

// Known is what a Verifier remembers of one platform that it has appraised, in
// this boot of it: so that the platform need not say it again. It is worth
// nothing for another boot, another platform or another appraisal policy, and
// not for ever.
type Known struct {
	// Policy is Params.Digest of the appraisal that it comes from.
	Policy attest.Bytes32 `json:"policy"`
	// Boot are the boot claims that a report bound.
	Boot    attest.BootClaims `json:"boot"`
	Verdict string            `json:"verdict"`
	// Signature says in words who signed the report, Measurement and HostData
	// what it said.
	Signature   string         `json:"signature"`
	Measurement attest.Bytes48 `json:"measurement"`
	HostData    attest.Bytes32 `json:"host_data"`
	// Expires is when the platform must show a report again.
	Expires time.Time `json:"expires"`
	// Components are those appraised, without their salts, and Agents the
	// identities that they make up.
	Components []attest.Component `json:"components"`
	Agents     []KnownAgent       `json:"agents"`
}

// KnownAgent is an identity whose components were appraised.
type KnownAgent struct {
	Identity   attest.Bytes32   `json:"identity"`
	Components []attest.Bytes32 `json:"components"` // by ID
}

// Validate refuses what no appraisal has left behind.
func (k *Known) Validate() error {
	if k.Verdict != attest.VerdictVerified && k.Verdict != attest.VerdictEmulated {
		return fmt.Errorf("known platform: verdict %.20q", k.Verdict)
	}
	if k.Boot.Version != attest.BootVersion || k.Expires.IsZero() || k.Policy.IsZero() {
		return fmt.Errorf("known platform: version %.40q of the boot claims, or no expiry or policy", k.Boot.Version)
	}
	if err := k.Boot.Validate(); err != nil {
		return fmt.Errorf("known platform: %w", err)
	}
	ids := k.byID()
	for _, a := range k.Agents {
		for _, id := range a.Components {
			if ids[id] == nil {
				return fmt.Errorf("known platform: identity %s has a component that is not there", a.Identity)
			}
		}
	}
	for i := range k.Components {
		c := &k.Components[i]
		if !c.Shown() || c.Salt != (attest.Bytes16{}) {
			return fmt.Errorf("known platform: component %d is not whole", i)
		}
		if err := c.Validate(); err != nil {
			return fmt.Errorf("known platform: component %d: %w", i, err)
		}
	}
	return nil
}

func (k *Known) byID() map[attest.Bytes32]*attest.Component {
	out := make(map[attest.Bytes32]*attest.Component, len(k.Components))
	for i := range k.Components {
		out[k.Components[i].ID()] = &k.Components[i]
	}
	return out
}

// Have are the digests that the platform may leave out.
func (k *Known) Have() []attest.Bytes32 {
	out := []attest.Bytes32{k.Boot.Digest()}
	for _, a := range k.Agents {
		out = append(out, a.Identity)
	}
	for i := range k.Components {
		out = append(out, k.Components[i].ID())
	}
	return out[:min(len(out), attest.MaxHave)]
}

// Remember is what evidence that was appraised without a refusal leaves behind.
// Evidence that leaned on what is known extends it and does not prolong it.
func Remember(e *attest.Evidence, r *attest.Result, p Params) (*Known, error) {
	if r.Verdict != attest.VerdictVerified && r.Verdict != attest.VerdictEmulated {
		return nil, fmt.Errorf("%w: nothing is remembered of a platform that was refused", ErrMismatch)
	}
	k := &Known{}
	if e.Remembered() {
		if p.Known == nil {
			return nil, fmt.Errorf("%w: the evidence leans on an appraisal that is not there", ErrMismatch)
		}
		*k = *p.Known
	} else {
		platform, err := p.platform(e, r.Verdict)
		if err != nil {
			return nil, err
		}
		k = platform
	}
	k.add(p.Known.Fill(e))
	return k, nil
}

// add takes in the components of a filled-in evidence.
func (k *Known) add(e *attest.Evidence) {
	known := k.byID()
	k.Components, k.Agents = nil, nil
	taken := map[attest.Bytes32]bool{}
	for i := range e.Agents {
		a := &e.Agents[i]
		if !a.Hidden.IsZero() || len(k.Agents) >= maxKnown || len(k.Components) >= maxKnown {
			continue
		}
		one := KnownAgent{Identity: a.Identity}
		for _, c := range a.Components {
			id := c.ID()
			if !c.Hidden.IsZero() || !c.Shown() && known[id] == nil {
				one.Components = nil
				break
			}
			one.Components = append(one.Components, id)
			if !taken[id] {
				taken[id] = true
				c.Salt = attest.Bytes16{}
				k.Components = append(k.Components, c)
			}
		}
		if len(one.Components) > 0 {
			k.Agents = append(k.Agents, one)
		}
	}
}

// maxKnown bounds what is remembered of one platform.
const maxKnown = 512
