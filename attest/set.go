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
	leaves []merkle.Hash
	root   Bytes32
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
	if !a.Shown() || len(a.Components) == 0 || a.Identity != Bytes32(IdentityRoot(a.Components)) {
		return s, fmt.Errorf("agent %.40q: identity is not that of its components", a.Instance)
	}
	if slices.ContainsFunc(s.agents, func(b Agent) bool { return a.Instance == b.Instance }) {
		return s, fmt.Errorf("agent %.40q: there is one already", a.Instance)
	}
	agents := append(slices.Clip(s.agents), a)
	return newAgentSet(agents, append(slices.Clip(s.leaves), merkle.Hash(a.Leaf()))), nil
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
	leaves[index] = merkle.Hash(agents[index].Leaf())
	return newAgentSet(agents, leaves), nil
}

func newAgentSet(agents []Agent, leaves []merkle.Hash) AgentSet {
	return AgentSet{agents, leaves, Bytes32(merkle.Root(leaves))}
}

// Len is how many agents there are.
func (s AgentSet) Len() int { return len(s.agents) }

// Root is the root over the agents.
func (s AgentSet) Root() Bytes32 {
	if len(s.agents) == 0 {
		return Bytes32(merkle.Root(nil))
	}
	return s.root
}

// Has reports whether the agent with that instance has that identity.
func (s AgentSet) Has(instance string, identity Bytes32) bool {
	return slices.ContainsFunc(s.agents, func(a Agent) bool { return a.Instance == instance && a.Identity == identity })
}
