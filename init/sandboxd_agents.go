package main

import (
	"context"
	"encoding/json"
	"time"

	"omega/attest"
	"omega/policy/provenance"
)

// stopGrace is how long an agent may take to end that was told to stop while it
// was about to start.
const stopGrace = 10 * time.Second

// agents lists the agents that the front's caller may see.
func (s *sandboxd) agents(_ context.Context, req agentsRequest) (agentsReply, error) {
	return agentsReply{Agents: s.roster.list(req.Names)}, nil
}

// output hands out an agent's last lines, once the log has who asked for them. An
// entry holds for a minute, for who goes on asking.
func (s *sandboxd) output(ctx context.Context, req outputRequest) (outputReply, error) {
	m, lines := s.roster.find(req.Instance, req.Names)
	if m == nil {
		return outputReply{}, nil
	}
	if now := time.Now(); s.roster.unread(m, req.Caller, now) {
		result, err := json.Marshal(map[string]any{"caller": req.Caller, "lines": len(lines)})
		if err != nil {
			return outputReply{}, err
		}
		e := provenance.Entry{Kind: provenance.KindReading, Agent: m.Instance, Identity: m.identity, Action: "output", Decision: provenance.Permit, Result: result}
		if err := s.record(ctx, e); err != nil {
			return outputReply{}, err
		}
		s.roster.read(m, req.Caller, now)
	}
	return outputReply{Found: true, Lines: lines}, nil
}

// stop ends an agent. That it may be stopped is for the fetcher to check, and in
// the log already.
func (s *sandboxd) stop(ctx context.Context, req stopRequest) (stopReply, error) {
	out, err := s.roster.end(ctx, req.Instance, max(0, req.Grace))
	if err != nil || out == nil {
		return stopReply{}, err
	}
	return *out, nil
}

// interrupt ends an agent that was told to stop while it started.
func (s *sandboxd) interrupt(ctx context.Context, agent attest.Agent, b box) {
	if err := b.Stop(ctx, stopGrace); err != nil {
		s.c.log.Error("stopping an agent", "instance", agent.Instance, "error", err)
	}
}
