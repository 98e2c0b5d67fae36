package attest

import (
	"errors"
	"slices"
)

// ErrNoSuchPart reports an opening of an agent or component that is not there
// or that the asker may not see; which of the two is nobody's to learn.
var ErrNoSuchPart = errors.New("no such agent or component")

// View is what one asker is shown. The zero View shows no agent.
type View struct {
	// Visible tells by an agent's name whether the asker may see it; nil shows none.
	Visible func(agentName string) bool
	// Have are digests that the asker has appraised: of boot claims, of
	// identities and of components, by ID. What they stand for is left out.
	Have []Bytes32
	// Open, if given, shows one component of one agent and nothing else.
	Open *Open
}

// Open names the components of an agent that are opened.
type Open struct {
	Instance string `json:"instance"`
	Kind     string `json:"kind"`
	Name     string `json:"name"`
}

func (v *View) visible(a *Agent) bool { return v.Visible != nil && v.Visible(a.Name) }

// Knows reports whether the asker named the platform of these boot claims.
func (v *View) Knows(boot [32]byte) bool { return slices.Contains(v.Have, Bytes32(boot)) }

// Show fills in the agents of e as the asker may see them. What the asker has
// appraised counts only where e leans on that appraisal: what is known of one
// boot is not known of another. A component that several agents have stands
// whole in the first of them.
func (v *View) Show(e *Evidence, set AgentSet) error {
	if v.Open != nil {
		return v.open(e, set)
	}
	have, identities := map[Bytes32]bool{}, map[Bytes32]bool{}
	if e.Remembered() {
		for _, d := range v.Have {
			have[d], identities[d] = true, true
		}
	}
	e.Agents = make([]Agent, len(set.agents))
	for i := range set.agents {
		a := &set.agents[i]
		switch {
		case !v.visible(a):
			e.Agents[i] = Agent{Index: a.Index, Hidden: set.leaves[i]}
		case identities[a.Identity]:
			e.Agents[i] = *a
			e.Agents[i].Components = nil
		default:
			e.Agents[i] = a.without(have, set.ids[i])
		}
	}
	return nil
}

// without is the agent without the components that the asker has, by their IDs;
// it then has these too.
func (a *Agent) without(have map[Bytes32]bool, ids []Bytes32) Agent {
	out := *a
	out.Components = slices.Clone(a.Components)
	for i, id := range ids {
		if have[id] {
			out.Components[i] = Component{Known: id, Salt: a.Components[i].Salt}
		}
		have[id] = true
	}
	return out
}

// open shows one agent with one part of it, and the path to the root.
func (v *View) open(e *Evidence, set AgentSet) error {
	i := set.index(v.Open.Instance)
	if i < 0 || !v.visible(&set.agents[i]) {
		return ErrNoSuchPart
	}
	a := &set.agents[i]
	out := Agent{Index: a.Index, Details: a.details(), Identity: a.Identity}
	found := false
	for _, c := range a.Components {
		if c.Kind == v.Open.Kind && c.Name == v.Open.Name {
			found = true
			out.Components = append(out.Components, c)
			continue
		}
		out.Components = append(out.Components, c.hide())
	}
	if !found {
		return ErrNoSuchPart
	}
	e.Agents = []Agent{out}
	e.AgentPath = fromHashes(set.tree.Proof(i))
	return nil
}
