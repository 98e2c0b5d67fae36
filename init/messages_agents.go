package main

import (
	"time"

	"omega/attest"
)

// Operations on agents that callers of the platform ask for.
const (
	opOrder  = "order"  // front -> fetcher: a deployment or removal
	opAgents = "agents" // front -> sandboxd
	opOutput = "output" // front -> sandboxd
	opStop   = "stop"   // fetcher -> sandboxd
)

// orderRequest is a deployment or a removal, still foreign bytes, with who
// hands it in.
type orderRequest struct {
	Statement []byte `json:"statement"` // as bytes: the channel itself is for JSON of our own
	// Caller is the caller's name in the policy; Names are those of the agents
	// that it may have deployed and removed.
	Caller string   `json:"caller"`
	Names  []string `json:"names"`
	// Removes demands a removal, and of this instance.
	Removes string `json:"removes,omitempty"`
}

// orderReply says what became of an order. Without Done, Code and Reason say
// why not.
type orderReply struct {
	Done     bool   `json:"done"`
	Instance string `json:"instance,omitempty"` // empty if the order did not even name one
	Name     string `json:"name,omitempty"`     // of the agent, where the order was carried out
	Bundle   string `json:"bundle,omitempty"`
	State    string `json:"state,omitempty"` // of the instance, now
	ExitCode *int   `json:"exit_code,omitempty"`
	Code     string `json:"code,omitempty"` // one of the front's
	Reason   string `json:"reason,omitempty"`
}

// agentsRequest asks for the agents of these names.
type agentsRequest struct {
	Names []string `json:"names"`
}

// agentsReply lists agents in the order of their admission.
type agentsReply struct {
	Agents []agentStatus `json:"agents"`
}

// agentStatus is one agent as its observers see it.
type agentStatus struct {
	Index    uint32         `json:"index"`
	Instance string         `json:"instance"`
	Name     string         `json:"name"`
	Bundle   attest.Bytes32 `json:"bundle"`
	State    string         `json:"state"`
	Restarts int            `json:"restarts"`
	Health   string         `json:"health,omitempty"`    // "" where nobody asks, or nothing is known yet
	ExitCode *int           `json:"exit_code,omitempty"` // of its last end
	Since    time.Time      `json:"since"`               // it has been in this state
}

// outputRequest asks for an agent's last lines, if it is one of these names.
type outputRequest struct {
	Instance string   `json:"instance"`
	Caller   string   `json:"caller"`
	Names    []string `json:"names"`
}

// outputReply is what an agent wrote last. Without Found there is no such agent.
type outputReply struct {
	Found bool     `json:"found"`
	Lines []string `json:"lines"`
}

// stopRequest asks to end an agent, and to kill it after grace.
type stopRequest struct {
	Instance string        `json:"instance"`
	Grace    time.Duration `json:"grace"`
}

// stopReply is how the agent ended. Without Found none of that name ran.
type stopReply struct {
	Found bool   `json:"found"`
	State string `json:"state"`
	Code  int    `json:"code"`
}
