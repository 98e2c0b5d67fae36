package main

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"omega/agentloader/sandbox"
	"omega/attest"
)

func TestTheSignerHearsOfAnAgentBeforeItStartsAndHasTheLastWord(t *testing.T) {
	var told atomic.Pointer[attest.Agent]
	s := &sandboxd{runner: new(sandbox.Runner), signer: answering(t, opAdmit, func(_ context.Context, req admitRequest) (admitReply, error) {
		if req.Agent.Instance == "one-too-many" {
			return admitReply{}, errors.New("agents: the table of agents is full")
		}
		told.Store(&req.Agent)
		return admitReply{Index: 7}, nil
	})}
	parts := []attest.Component{{Kind: attest.KindPolicy, Salt: attest.Bytes16{1}}}
	a, err := s.admit(t.Context(), runRequest{Instance: "notes-1", Name: "notes", Components: parts})
	if err != nil {
		t.Fatal(err)
	}
	got := told.Load()
	if a.Index != 7 || got.State != attest.AgentAdmitted || got.Identity != attest.Bytes32(attest.IdentityRoot(parts)) || got.Salt == (attest.Bytes16{}) {
		t.Errorf("agent %+v, the signer was told %+v", a, got)
	}
	if _, err := s.admit(t.Context(), runRequest{Instance: "one-too-many"}); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("an agent that evidence has no room for: %v", err)
	}
}
