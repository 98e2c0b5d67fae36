package main

import (
	"context"
	"time"

	"omega/agentloader/sandbox"
)

// How an agent's health is watched. An agent that was well and does not answer
// that often in a row is killed, and started again where its manifest says so;
// one that has not been well yet has its time to start.
const (
	healthEvery   = 10 * time.Second
	healthTimeout = 5 * time.Second
	healthMisses  = 3
	healthStart   = 3 * time.Minute
)

// How an agent is, as its observers see it.
const (
	healthGood = "healthy"
	healthBad  = "unhealthy"
)

// health counts an agent's answers.
type health struct {
	began  time.Time
	well   bool // it was, once
	misses int  // in a row
}

// seen notes one answer and reports how the agent is ("" while it starts), and
// whether it has to go.
func (h *health) seen(good bool, now time.Time) (state string, hopeless bool) {
	if good {
		h.well, h.misses = true, 0
		return healthGood, false
	}
	h.misses++
	if !h.well && now.Sub(h.began) < healthStart {
		return "", false
	}
	return healthBad, h.misses >= healthMisses
}

// watchHealth asks an agent how it is until its sandbox ends.
func (s *sandboxd) watchHealth(ctx context.Context, instance, path string, box *sandbox.Sandbox) {
	h := health{began: time.Now()}
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	for {
		select {
		case <-box.Done():
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		state, hopeless := h.seen(s.asksHealth(ctx, instance, path), time.Now())
		s.roster.feels(instance, state)
		if hopeless {
			s.c.log.Warn("an agent does not answer and is ended", "instance", instance)
			if err := box.Kill(); err != nil {
				s.c.log.Error("ending an agent", "instance", instance, "error", err)
			}
			return
		}
	}
}

func (s *sandboxd) asksHealth(ctx context.Context, instance, path string) bool {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	var reply healthReply
	_, err := s.gateway.Call(ctx, opHealth, healthRequest{Instance: instance, Path: path}, &reply)
	return err == nil && reply.Why == ""
}

// feels notes how an agent is; a sandbox that begins anew has said nothing yet.
func (r *roster) feels(instance, state string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.agents[instance]; m != nil && m.box != nil {
		m.Health = state
	}
}

// health answers opHealth.
func (g *gatewayChild) health(ctx context.Context, req healthRequest) (healthReply, error) {
	g.mu.Lock()
	gw := g.gw
	g.mu.Unlock()
	if gw == nil {
		return healthReply{}, errNotStarted
	}
	if err := gw.Healthy(ctx, req.Instance, req.Path); err != nil {
		return healthReply{Why: clip(err.Error(), maxReason)}, nil
	}
	return healthReply{}, nil
}
