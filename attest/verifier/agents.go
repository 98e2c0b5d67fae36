package verifier

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"omega/attest"
	"omega/internal/share"
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
	all := a.hash()
	leaves, hidden := make([]attest.Bytes32, len(all)), 0
	for i := range a.e.Agents {
		leaves[i] = all[i].leaf
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
	a.judge(a.e.CompleteOf(leaves), c, "the agents are not those that the platform stated: one was left out, added, changed or moved")
	if a.e.Partial() || slices.ContainsFunc(all, func(h hashed) bool { return h.unseen }) {
		a.say("hidden", "agents or parts of them are not shown to you: nothing is said about who vouches for those, nor whether they are revoked")
	}
	a.result.Checks = slices.Grow(a.result.Checks, len(all))
	seen := make(map[string]bool, len(all))
	for i := range a.e.Agents {
		if g := &a.e.Agents[i]; g.Hidden.IsZero() {
			a.agent(g, &all[i], seen)
		}
	}
}

// hashed is an agent with its hashes.
type hashed struct {
	ids            []attest.Bytes32 // of its components
	identity, leaf attest.Bytes32
	unsent         bool // no component was sent: the identity must be one that is known
	unseen         bool // it, or a component, is not shown
	shown          int  // components
}

// hash hashes all agents, each component once, on all processors.
func (a *appraisal) hash() []hashed {
	out := make([]hashed, len(a.e.Agents))
	for i := range out {
		g, h := &a.e.Agents[i], &out[i]
		for n := range g.Components {
			if g.Components[n].Shown() {
				h.shown++
			}
		}
		h.unsent, h.ids = len(a.sent.Agents[i].Components) == 0, a.partIDs[i]
		h.unseen = !g.Hidden.IsZero() || h.shown < len(h.ids)
	}
	const few = 32 // agents: a goroutine costs as much as the hashes of one
	share.Each(len(out), few, func(i int) {
		g, h := &a.e.Agents[i], &out[i]
		h.leaf = g.Leaf()
		if h.unsent {
			return
		}
		var room [16]attest.Bytes32 // enough for most, without an allocation
		commitments := append(room[:0], h.ids...)
		for n := range commitments {
			if commitments[n] = g.Components[n].Hidden; commitments[n].IsZero() {
				commitments[n] = attest.Commitment(h.ids[n], a.sent.Agents[i].Components[n].Salt)
			}
		}
		h.identity = attest.RootOfCommitments(commitments)
	})
	return out
}

// agent appraises one agent.
func (a *appraisal) agent(g *attest.Agent, h *hashed, seen map[string]bool) {
	c := attest.Check{Name: "agent " + title(g), Expected: "an agent bundle, and an instance name of its own", Found: fmt.Sprintf("bundle %s, instance %q", g.Bundle, g.Instance)}
	if g.Shown() && (g.Bundle.IsZero() || g.Instance == "" || seen[g.Instance]) {
		c.Words = "the agent has no bundle, or its name twice"
		a.compare(false, c)
		return
	}
	seen[g.Instance] = true
	if err := a.identity(g, h); err != nil {
		a.refuse(err, c)
		return
	}
	c.Words = "agent " + strconv.Quote(g.Name) + ", " + g.State + ", is made of the " + strconv.Itoa(len(g.Components)) + " components shown, each signed by its principal"
	switch {
	case h.unsent:
		c.Words = fmt.Sprintf("agent %q, %s, is made of %d components that you appraised before", g.Name, g.State, len(g.Components))
	case h.shown < len(g.Components):
		c.Words = fmt.Sprintf("agent %s has %d components, of which %d are shown, each signed by its principal", title(g), len(g.Components), h.shown)
	}
	a.compare(true, c)
}

// signers are the keys that a component's signatures name, in words.
func signers(c *attest.Component) string {
	if len(c.Signatures) == 0 {
		return "no signature"
	}
	return "signatures by " + strings.Trim(fmt.Sprint(c.KeyIDs()), "[]")
}

// identity says why an agent is not what its identity says, signatures first.
func (a *appraisal) identity(g *attest.Agent, h *hashed) error {
	if len(g.Components) == 0 {
		return refusal(ErrMismatch, "the agent shows no components, and its identity is not one that is known here", g.Identity, "an identity that was appraised before")
	}
	if err := a.parts(g, h); err != nil {
		return err
	}
	if !h.unsent && g.Identity != h.identity {
		return refusal(ErrMismatch, "the agent is not made of the components shown: one was changed, added, left out, or swapped with another agent's", h.identity, g.Identity)
	}
	return nil
}

// parts says why an agent's components are not what they should be. Most agents
// have those of the one before.
func (a *appraisal) parts(g *attest.Agent, h *hashed) error {
	if g.Bundle == a.good.bundle && slices.Equal(h.ids, a.good.ids) {
		return nil
	}
	for i := range g.Components {
		c := &g.Components[i]
		switch {
		case !c.Hidden.IsZero():
			continue
		case !c.Shown():
			return refusal(ErrMismatch, "the agent leaves out a component that is not known here", c.Known, "a component that was appraised before")
		case c.Kind == attest.KindPolicy && c.Digest != a.e.Boot.PolicyDigest:
			return refusal(ErrMismatch, "the agent's policy is not the platform's", c.Digest, a.e.Boot.PolicyDigest)
		}
		if err := a.vouch(c, h.ids[i], g.Bundle); err != nil {
			return err
		}
	}
	a.good = goodParts{g.Bundle, h.ids}
	return nil
}

// goodParts are the components of an agent bundle that parts has found good.
type goodParts struct {
	bundle attest.Bytes32
	ids    []attest.Bytes32
}

// vouch verifies a component's signatures, each component once.
func (a *appraisal) vouch(c *attest.Component, id, bundle attest.Bytes32) error {
	if c.Measured() {
		return nil
	}
	key := vouching{id, bundle}
	err, done := a.vouched[key]
	if !done {
		if err = a.voucher.Vouched(c, bundle); err != nil {
			err = &Refusal{Class: ErrSignature, Words: err.Error(), Found: signers(c), cause: err,
				Expected: fmt.Sprintf("a signature of principal %q as %q over %s %q", c.Principal, c.Role, c.Kind, c.Name)}
		}
		a.vouched[key] = err
	}
	return err
}
