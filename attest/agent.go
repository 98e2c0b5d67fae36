package attest

import (
	"omega/internal/labelhash"
	"omega/internal/merkle"
)

// States of an agent.
const (
	AgentAdmitted = "admitted"
	AgentRunning  = "running"
	AgentExited   = "exited"
	AgentFailed   = "failed"
	AgentStopped  = "stopped"
)

// Agent is one admitted agent. In evidence it stands in one of three forms:
// whole, with or without the components of an identity that the verifier named
// as known; opened, with Details in place of what they commit to; or Hidden.
type Agent struct {
	// Index counts admissions from the start of the boot. It is the agent's
	// place in the set of agents.
	Index uint32 `json:"index"`
	// Hidden is the leaf of an agent that is not shown.
	Hidden Bytes32 `json:"hidden,omitzero"`
	// Details is the commitment to the next five, where they are not shown.
	Details  Bytes32 `json:"details,omitzero"`
	Instance string  `json:"instance,omitempty"`
	State    string  `json:"state,omitempty"`
	Name     string  `json:"name,omitempty"`
	// Bundle is the digest of the agent bundle.
	Bundle Bytes32 `json:"bundle,omitzero"`
	Salt   Bytes16 `json:"salt,omitzero"`
	// Identity is IdentityRoot of the components.
	Identity   Bytes32     `json:"identity,omitzero"`
	Components []Component `json:"components,omitempty" most:"64"`
}

// Shown reports whether the agent's name and state stand there.
func (a *Agent) Shown() bool { return a.Hidden.IsZero() && a.Details.IsZero() }

// details commits to what the agent is called, what state it is in, and from
// which bundle it came.
func (a *Agent) details() Bytes32 {
	if !a.Details.IsZero() {
		return a.Details
	}
	return labelhash.Sum256("omega/agent-details/v1", a.Salt[:], []byte(a.Instance), []byte(a.State), []byte(a.Name), a.Bundle[:])
}

// Leaf is the agent's value in the set of agents.
func (a *Agent) Leaf() Bytes32 {
	if !a.Hidden.IsZero() {
		return a.Hidden
	}
	details := a.details()
	return labelhash.Sum256("omega/agent-leaf/v1", be32(a.Index), details[:], a.Identity[:])
}

func agentLeaves(a []Agent) []merkle.Hash {
	leaves := make([]merkle.Hash, len(a))
	for i := range a {
		leaves[i] = merkle.Hash(a[i].Leaf())
	}
	return leaves
}

// AgentsRoot is the root over the agents in order.
func AgentsRoot(a []Agent) [32]byte { return merkle.Root(agentLeaves(a)) }
