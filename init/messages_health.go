package main

// opHealth has the gateway ask an agent whether it is well (sandboxd -> gateway).
const opHealth = "health"

// healthRequest names the agent, and what its manifest says it answers at.
type healthRequest struct {
	Instance string `json:"instance"`
	Path     string `json:"path"`
}

// healthReply is empty for an agent that is well.
type healthReply struct {
	Why string `json:"why,omitempty"`
}
