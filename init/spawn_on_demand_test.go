package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"omega/agentloader"
	"omega/agentloader/bundle"
	"omega/agentloader/sandbox"
	"omega/attest"
	"omega/internal/wire"
	"omega/policy"
)

func TestWhoWantsASandboxHearsWhatCameOfIt(t *testing.T) {
	s := newStarter()
	wanted := make(chan error, 1)
	for _, want := range []string{"", "the table of agents is full"} {
		go func() { wanted <- s.Start(t.Context(), "files-1", "files-1.a") }()
		got, err := s.take(t.Context(), nothing{})
		if err != nil || len(got.Orders) != 1 || got.Orders[0].Offer != "files-1" || got.Orders[0].Instance != "files-1.a" || got.Orders[0].Stop || got.Orders[0].ID == 0 {
			t.Fatalf("%+v, %v", got, err)
		}
		if _, err := s.done(t.Context(), orderedRequest{ID: got.Orders[0].ID, Error: want}); err != nil {
			t.Fatal(err)
		}
		if err := <-wanted; want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("heard %v, want %q", err, want)
		}
	}
	if _, err := s.done(t.Context(), orderedRequest{ID: 99}); err != nil {
		t.Errorf("an answer that nobody waits for: %v", err)
	}
}

func TestWhoNoLongerWaitsHasItsSandboxEnded(t *testing.T) {
	s := newStarter()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Start(ctx, "files-1", "files-1.a"); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	got, err := s.take(t.Context(), nothing{})
	if err != nil || len(got.Orders) != 2 || !got.Orders[1].Stop || got.Orders[1].Instance != "files-1.a" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestOrdersAreBoundedAndWaitForTheirTaker(t *testing.T) {
	s := newStarter()
	for range maxOrders + 1 {
		s.Stop("a", "b")
	}
	if err := s.Start(t.Context(), "a", "b"); !errors.Is(err, errOrders) {
		t.Errorf("one order too many: %v", err)
	}
	if got, err := s.take(t.Context(), nothing{}); err != nil || len(got.Orders) != maxOrdersAt {
		t.Errorf("%d at once, %v", len(got.Orders), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newStarter().take(ctx, nothing{}); !errors.Is(err, context.Canceled) {
		t.Errorf("without orders: %v", err)
	}
}

func TestABundleRunsAsPolicyAndManifestAgree(t *testing.T) {
	k := kindsOf(&policy.Document{Servers: []policy.Server{{Name: "files", Bundle: "files-server"}, {Name: "web", URL: "https://x"}}, Agents: []policy.AgentRule{{Name: "a", Sessions: "clean"}, {Name: "b"}}})
	if !k.clean["a"] || k.clean["b"] {
		t.Errorf("clean %v", k.clean)
	}
	server := &bundle.MCPServer{Transport: bundle.TransportStdio}
	for _, test := range []struct {
		name   string
		server *bundle.MCPServer
		want   string
	}{
		{"files-server", server, ""},
		{"b", nil, ""},
		{"a", nil, "takes no requests"},
		{"b", server, "the policy names no server with bundle: b"},
		{"files-server", nil, "the bundle's manifest has no server"},
	} {
		err := k.fits(&agentloader.Admitted{Name: test.name, Manifest: &bundle.Manifest{Server: test.server}})
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s, server %v: %v, want %q", test.name, test.server, err, test.want)
		}
	}
}

func TestNothingStartsOfABundleWhoseDeploymentEnds(t *testing.T) {
	for name, ends := range map[string]func(o *offer){
		"before it is admitted": func(*offer) {},
		"while it is admitted":  func(o *offer) { o.over = true },
	} {
		from := &offer{rows: map[string]*offered{}, over: name == "before it is admitted"}
		var ran atomic.Bool
		s := &sandboxd{c: &child{log: slog.New(slog.DiscardHandler)}, runner: new(sandbox.Runner)}
		s.signer = answeringAll(t, map[string]wire.Handler{
			opAdmit: handle(func(context.Context, admitRequest) (admitReply, error) {
				from.mu.Lock()
				defer from.mu.Unlock()
				ends(from)
				return admitReply{}, nil
			}),
			opState: handle(func(_ context.Context, req stateRequest) (nothing, error) {
				if req.State == attest.AgentRunning {
					ran.Store(true)
				}
				return nothing{}, nil
			}),
		})
		row, err := s.row(t.Context(), from, "desk+s1", runRequest{Instance: "desk"}, attest.Bytes32{})
		if row != nil || !errors.Is(err, errWithdrawn) {
			t.Errorf("%s: %v, %v", name, row, err)
		}
		if m := s.roster.agents["desk+s1"]; m != nil && m.State != attest.AgentStopped || ran.Load() {
			t.Errorf("%s: the table says %+v, and said that it runs: %v", name, m, ran.Load())
		}
	}
}
