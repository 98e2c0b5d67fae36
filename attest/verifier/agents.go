package verifier

import (
	"errors"
	"fmt"

	"omega/attest"
)

// vouching is a component's signatures for one agent bundle, verified once
// however many agents have them.
type vouching struct{ id, bundle attest.Bytes32 }

// title names an agent in words, also one whose name is not shown.
func title(g *attest.Agent) string {
	if g.Shown() {
		return g.Instance
	}
	return fmt.Sprintf("#%d", g.Index)
}

// agents: the set that the session statement names is the one shown, each
// identity is that of the components shown, and each component is vouched for.
func (a *appraisal) agents() {
	s := &a.e.Session
	c := attest.Check{
		Name: "agents", Expected: fmt.Sprintf("%d agents, root %s", s.AgentCount, s.AgentsRoot), Found: fmt.Sprintf("%d agents", len(a.e.Agents)),
		Words: "these are all agents that the platform has admitted in this boot",
	}
	hidden := 0
	for i := range a.e.Agents {
		if !a.e.Agents[i].Hidden.IsZero() {
			hidden++
		}
	}
	switch {
	case a.e.Partial():
		c.Words = fmt.Sprintf("this is one of the %d agents that the platform has admitted in this boot; nothing is shown of the others", s.AgentCount)
	case hidden > 0:
		c.Words = fmt.Sprintf("these and %d that you are not shown are all agents that the platform has admitted in this boot", hidden)
	}
	a.judge(a.e.Complete(), c, "the agents are not those that the platform stated: one was left out, added, changed or moved")
	if a.unseen() {
		a.say("hidden", "agents or parts of them are not shown to you: nothing is said about who vouches for those, nor whether they are revoked")
	}
	seen := map[string]bool{}
	for i := range a.e.Agents {
		if g := &a.e.Agents[i]; g.Hidden.IsZero() {
			a.agent(g, len(a.sent.Agents[i].Components) == 0, seen)
		}
	}
}

// agent appraises one agent. Where no component was sent, the identity must be
// one that is known.
func (a *appraisal) agent(g *attest.Agent, unsent bool, seen map[string]bool) {
	c := attest.Check{Name: "agent " + title(g), Expected: g.Identity.String()}
	if g.Shown() && (g.Bundle.IsZero() || g.Instance == "" || seen[g.Instance]) {
		c.Words = "the agent has no bundle, or its name twice"
		a.compare(false, c)
		return
	}
	seen[g.Instance] = true
	if err := a.identity(g, unsent); err != nil {
		if errors.Is(err, ErrSignature) {
			a.refuse(err, c)
			return
		}
		c.Words = err.Error()
		a.compare(false, c)
		return
	}
	c.Words = fmt.Sprintf("agent %q, %s, is made of the %d components shown, each signed by its principal", g.Name, g.State, len(g.Components))
	switch shown := shownOf(g); {
	case unsent:
		c.Words = fmt.Sprintf("agent %q, %s, is made of %d components that you appraised before", g.Name, g.State, len(g.Components))
	case shown < len(g.Components):
		c.Words = fmt.Sprintf("agent %s has %d components, of which %d are shown, each signed by its principal", title(g), len(g.Components), shown)
	}
	a.compare(true, c)
}

// unseen reports whether there are agents or components that are not shown.
func (a *appraisal) unseen() bool {
	if a.e.Partial() {
		return true
	}
	for i := range a.e.Agents {
		g := &a.e.Agents[i]
		if !g.Hidden.IsZero() || shownOf(g) < len(g.Components) {
			return true
		}
	}
	return false
}

func shownOf(g *attest.Agent) (n int) {
	for i := range g.Components {
		if g.Components[i].Shown() {
			n++
		}
	}
	return n
}

// identity says why an agent is not what its identity says, signatures first.
func (a *appraisal) identity(g *attest.Agent, unsent bool) error {
	if len(g.Components) == 0 {
		return errors.New("the agent shows no components, and its identity is not one that is known here")
	}
	commitments := make([]attest.Bytes32, len(g.Components))
	for i := range g.Components {
		c := &g.Components[i]
		id := a.ids.of(c)
		commitments[i] = c.Hidden
		if c.Hidden.IsZero() {
			commitments[i] = attest.Commitment(id, c.Salt)
		}
		switch {
		case !c.Hidden.IsZero():
			continue
		case !c.Shown():
			return fmt.Errorf("the agent leaves out component %s, which is not known here", c.Known)
		case c.Kind == attest.KindPolicy && c.Digest != a.e.Boot.PolicyDigest:
			return errors.New("the agent's policy is not the platform's")
		}
		if err := a.vouch(c, id, g.Bundle); err != nil {
			return err
		}
	}
	if !unsent && g.Identity != attest.Bytes32(attest.RootOfCommitments(commitments)) {
		return errors.New("the agent is not made of the components shown: one was changed, added, left out, or swapped with another agent's")
	}
	return nil
}

// vouch verifies a component's signatures, each component once.
func (a *appraisal) vouch(c *attest.Component, id, bundle attest.Bytes32) error {
	if c.Measured() {
		return nil
	}
	key := vouching{id, bundle}
	err, done := a.vouched[key]
	if !done {
		err = a.voucher.Vouched(c, bundle)
		a.vouched[key] = err
	}
	return err
}
