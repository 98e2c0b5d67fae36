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
	// Open, if given, shows one agent, or one component of it, and nothing else.
	Open *Open
}

// Open names the components of an agent that are opened; without a kind, the
// agent is shown whole.
type Open struct {
	Instance string `json:"instance"`
	Kind     string `json:"kind,omitempty"`
	Name     string `json:"name,omitempty"`
}

func (v *View) visible(a *Agent) bool { return v.Visible != nil && v.Visible(a.Name) }

// Knows reports whether the asker named the platform of these boot claims.
func (v *View) Knows(boot [32]byte) bool { return slices.Contains(v.Have, Bytes32(boot)) }

// Show fills in the agents of e as the asker may see them. What the asker has
// appraised counts only where e leans on that appraisal: what is known of one
// boot is not known of another. A component that several agents have stands
// whole in the first of them.
func (v *View) Show(e *Evidence, set AgentSet) error {
	if v.Open != nil && v.Open.Kind != "" {
		return v.open(e, set)
	}
	has := appraised{map[Bytes32]bool{}, map[Bytes32]bool{}}
	if e.Remembered() {
		for _, d := range v.Have {
			has.components[d], has.identities[d] = true, true
		}
	}
	if v.Open != nil {
		i, err := v.find(set)
		if err != nil {
			return err
		}
		e.Agents, e.AgentPath = []Agent{has.leftOut(&set.agents[i], set.ids[i])}, fromHashes(set.tree.Proof(i))
		return nil
	}
	e.Agents = make([]Agent, len(set.agents))
	for i := range set.agents {
		a := &set.agents[i]
		if v.visible(a) {
			e.Agents[i] = has.leftOut(a, set.ids[i])
			continue
		}
		e.Agents[i] = Agent{Index: a.Index, Hidden: set.leaves[i]}
	}
	return nil
}

// appraised are the components, by ID, and the identities that the asker has.
type appraised struct{ components, identities map[Bytes32]bool }

// leftOut is the agent without what the asker has; the asker then has the rest
// of its components too.
func (h appraised) leftOut(a *Agent, ids []Bytes32) Agent {
	out := *a
	if h.identities[a.Identity] {
		out.Components = nil
		return out
	}
	out.Components = slices.Clone(a.Components)
	for i, id := range ids {
		if h.components[id] {
			out.Components[i] = Component{Known: id, Salt: a.Components[i].Salt}
		}
		h.components[id] = true
	}
	return out
}

// find is the place of the agent that is opened.
func (v *View) find(set AgentSet) (int, error) {
	i := set.index(v.Open.Instance)
	if i < 0 || !v.visible(&set.agents[i]) {
		return 0, ErrNoSuchPart
	}
	return i, nil
}

// open shows one agent with one part of it, and the path to the root.
func (v *View) open(e *Evidence, set AgentSet) error {
	i, err := v.find(set)
	if err != nil {
		return err
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
