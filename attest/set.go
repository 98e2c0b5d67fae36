package attest

import (
	"errors"
	"fmt"
	"slices"

	"omega/internal/merkle"
)

// AgentSet is the agents of a boot with the hashes of their tree, so that each
// answer costs what it shows and not what is there. It never changes: a change
// makes a new one, and the zero AgentSet is the empty one.
type AgentSet struct {
	agents []Agent
	ids    [][]Bytes32 // of each agent's components
	leaves []Bytes32
	tree   merkle.Tree
}

// With is the set with one more agent, which gets its index.
func (s AgentSet) With(a Agent) (AgentSet, error) {
	if len(s.agents) >= MaxAgents {
		return s, fmt.Errorf("agents: %d are as many as evidence takes", len(s.agents))
	}
	a.Index = uint32(len(s.agents))
	if err := a.check(); err != nil {
		return s, fmt.Errorf("agent %.40q: %w", a.Instance, err)
	}
	ids, commitments := make([]Bytes32, len(a.Components)), make([]Bytes32, len(a.Components))
	for i := range a.Components {
		ids[i] = a.Components[i].ID()
		commitments[i] = Commitment(ids[i], a.Components[i].Salt)
	}
	if !a.Shown() || len(ids) == 0 || a.Identity != Bytes32(RootOfCommitments(commitments)) {
		return s, fmt.Errorf("agent %.40q: identity is not that of its components", a.Instance)
	}
	if s.index(a.Instance) >= 0 {
		return s, fmt.Errorf("agent %.40q: there is one already", a.Instance)
	}
	leaf := a.Leaf()
	return AgentSet{
		agents: append(slices.Clip(s.agents), a), ids: append(slices.Clip(s.ids), ids),
		leaves: append(slices.Clip(s.leaves), leaf), tree: s.tree.With(len(s.agents), merkle.Hash(leaf)),
	}, nil
}

// WithState is the set with one agent in another state. An agent that has ended
// stays ended.
func (s AgentSet) WithState(index uint32, state string) (AgentSet, error) {
	if int64(index) >= int64(len(s.agents)) {
		return s, errors.New("agent: no such index")
	}
	if now := s.agents[index].State; now != AgentAdmitted && now != AgentRunning {
		return s, nil
	}
	agents, leaves := slices.Clone(s.agents), slices.Clone(s.leaves)
	agents[index].State = state
	if err := agents[index].check(); err != nil {
		return s, fmt.Errorf("agent %d: %w", index, err)
	}
	leaves[index] = agents[index].Leaf()
	return AgentSet{agents, s.ids, leaves, s.tree.With(int(index), merkle.Hash(leaves[index]))}, nil
}

// Len is how many agents there are.
func (s AgentSet) Len() int { return len(s.agents) }

// Root is the root over the agents.
func (s AgentSet) Root() Bytes32 { return Bytes32(s.tree.Root()) }

// Has reports whether the agent with that instance has that identity.
func (s AgentSet) Has(instance string, identity Bytes32) bool {
	i := s.index(instance)
	return i >= 0 && s.agents[i].Identity == identity
}

// index is the place of an instance, or -1.
func (s AgentSet) index(instance string) int {
	for i := range s.agents { // without copying each
		if s.agents[i].Instance == instance {
			return i
		}
	}
	return -1
}
