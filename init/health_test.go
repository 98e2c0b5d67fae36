package main

import (
	"context"
	"testing"
	"time"

	"omega/attest"
)

func TestAnAgentThatStopsAnsweringHasToGo(t *testing.T) {
	begin := time.Unix(1000, 0)
	type answer struct {
		after    time.Duration
		good     bool
		state    string
		hopeless bool
	}
	tests := []struct {
		name    string
		answers []answer
	}{
		{"well", []answer{{10 * time.Second, true, healthGood, false}}},
		{"slow to start", []answer{{10 * time.Second, false, "", false}, {60 * time.Second, false, "", false}, {170 * time.Second, false, "", false}, {179 * time.Second, true, healthGood, false}}},
		{"never started", []answer{{100 * time.Second, false, "", false}, {170 * time.Second, false, "", false}, {180 * time.Second, false, healthBad, true}}},
		{"hangs", []answer{{10 * time.Second, true, healthGood, false}, {20 * time.Second, false, healthBad, false}, {30 * time.Second, false, healthBad, false}, {40 * time.Second, false, healthBad, true}}},
		{"stumbles", []answer{{10 * time.Second, true, healthGood, false}, {20 * time.Second, false, healthBad, false}, {30 * time.Second, true, healthGood, false}, {40 * time.Second, false, healthBad, false}}},
	}
	for _, tt := range tests {
		h := health{began: begin}
		for i, a := range tt.answers {
			if state, hopeless := h.seen(a.good, begin.Add(a.after)); state != a.state || hopeless != a.hopeless {
				t.Errorf("%s, answer %d: %q, %v", tt.name, i, state, hopeless)
			}
		}
	}
}

func TestObserversSeeHowAnAgentIs(t *testing.T) {
	asked := make(chan healthRequest, 8)
	s := &sandboxd{gateway: answering(t, opHealth, func(_ context.Context, req healthRequest) (healthReply, error) {
		asked <- req
		if req.Path == "/ill" {
			return healthReply{Why: "status 500"}, nil
		}
		return healthReply{}, nil
	})}
	if !s.asksHealth(t.Context(), "a-1", "/well") || s.asksHealth(t.Context(), "a-1", "/ill") {
		t.Error("the gateway's answer is not what counts")
	}
	if got := <-asked; got.Instance != "a-1" || got.Path != "/well" {
		t.Errorf("asked %+v", got)
	}
	m := s.roster.add(attest.Agent{Instance: "a-1", Name: "a"})
	s.roster.feels("a-1", healthGood)
	if got := s.roster.list([]string{"a"}); got[0].Health != "" {
		t.Error("an agent that does not run is well")
	}
	s.roster.began(m, nopBox{}, false)
	s.roster.feels("a-1", healthBad)
	s.roster.feels("gone-1", healthBad)
	if got := s.roster.list([]string{"a"}); got[0].Health != healthBad {
		t.Errorf("%+v", got)
	}
	s.roster.paused(m, 1, nil)
	if got := s.roster.list([]string{"a"}); got[0].Health != "" {
		t.Errorf("after its end: %+v", got)
	}
}

type nopBox struct{}

func (nopBox) Stop(context.Context, time.Duration) error { return nil }
func (nopBox) Output() []string                          { return nil }
