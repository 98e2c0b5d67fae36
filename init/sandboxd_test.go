package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"omega/agentloader/sandbox"
	"omega/attest"
)

// told returns a sandboxd and what it last told the signer.
func told(t *testing.T) (*sandboxd, *atomic.Pointer[[]attest.Agent]) {
	t.Helper()
	last := new(atomic.Pointer[[]attest.Agent])
	return &sandboxd{runner: new(sandbox.Runner), signer: answering(t, opAgents, func(_ context.Context, req agentTable) (nothing, error) {
		last.Store(&req.Agents)
		return nothing{}, nil
	})}, last
}

func TestAnAgentThatHasEndedIsNotCalledRunning(t *testing.T) {
	for _, end := range []string{attest.AgentExited, attest.AgentFailed} {
		s, last := told(t)
		a, err := s.admit(t.Context(), runRequest{Instance: "notes-1"})
		if err != nil {
			t.Fatal(err)
		}
		for _, state := range []string{end, attest.AgentRunning} { // it ended before its start was noted
			if err := s.setState(t.Context(), a.Index, state); err != nil {
				t.Fatal(err)
			}
		}
		if got := (*last.Load())[0].State; got != end {
			t.Errorf("an agent that %s is %s in evidence", end, got)
		}
	}
}

func TestOneAgentTooManyCostsTheOthersNothing(t *testing.T) {
	s, last := told(t)
	large := make([]attest.Component, 64)
	for i := range large {
		large[i] = attest.Component{Kind: "tool-descriptors", Name: strings.Repeat("n", 63), KeyID: strings.Repeat("k", 64)}
	}
	n := 0
	for ; ; n++ {
		_, err := s.admit(t.Context(), runRequest{Instance: fmt.Sprintf("a-%d", n), Components: large})
		if errors.Is(err, errTableFull) {
			break
		}
		if err != nil || n > 1000 {
			t.Fatalf("after %d agents: %v", n, err)
		}
	}
	if n < 10 {
		t.Errorf("there is room for %d agents", n)
	}
	if err := s.setState(t.Context(), 0, attest.AgentExited); err != nil {
		t.Errorf("the first agent's end stays unknown: %v", err)
	}
	if table := *last.Load(); len(table) != n || table[0].State != attest.AgentExited {
		t.Errorf("the signer knows %d agents, the first %s", len(table), table[0].State)
	}
}
