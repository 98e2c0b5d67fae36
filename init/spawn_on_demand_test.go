package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"omega/agentloader"
	"omega/agentloader/bundle"
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
