package signer

import (
	"encoding/json"
	"errors"
	"fmt"

	"omega/attest"
)

// maxAgentBytes bounds the JSON of all agents: with the rest of evidence it
// must fit attest.MaxEvidence, or one agent more would stop evidence for all.
const maxAgentBytes = attest.MaxEvidence - 1<<20

// ErrFull reports that evidence has no room for another agent.
var ErrFull = errors.New("agents: the table of agents is full")

// Admit adds an agent to those that the next session statements name, and
// returns its index.
func (s *Signer) Admit(a attest.Agent) (uint32, error) {
	b, err := json.Marshal(a)
	if err != nil {
		return 0, fmt.Errorf("agent: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.agents.Len() >= attest.MaxAgents || s.agentBytes+len(b) > maxAgentBytes {
		return 0, ErrFull
	}
	set, err := s.agents.With(a)
	if err != nil {
		return 0, err
	}
	s.agents, s.agentBytes = set, s.agentBytes+len(b)
	return uint32(set.Len() - 1), nil
}

// SetState changes an agent's state. One that has ended stays ended.
func (s *Signer) SetState(index uint32, state string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	set, err := s.agents.WithState(index, state)
	if err != nil {
		return err
	}
	s.agents = set
	return nil
}
