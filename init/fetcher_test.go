package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"omega/agentloader"
	"omega/agentloader/bundle"
	"omega/internal/wire"
	"omega/policy"
)

// answering is a client whose other end answers op with what f returns.
func answering[Req, Reply any](t *testing.T, op string, f func(context.Context, Req) (Reply, error)) *wire.Client {
	t.Helper()
	return answeringAll(t, map[string]wire.Handler{op: handle(f)})
}

// answeringAll is a client whose other end answers by these handlers.
func answeringAll(t *testing.T, handlers map[string]wire.Handler) *wire.Client {
	t.Helper()
	a, b, err := wire.Pair()
	if err != nil {
		t.Fatal(err)
	}
	ours, err := wire.NewConn(a)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := wire.NewConn(b)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- wire.Serve(context.Background(), theirs, handlers) }()
	client := wire.NewClient(ours)
	t.Cleanup(func() { client.Close(); <-done })
	return client
}

// admits is a loader that admits everything.
type admits struct{}

func (admits) AdmitFor(context.Context, []byte, func(string) bool) (*agentloader.Admitted, error) {
	return &agentloader.Admitted{Instance: "notes-1", Name: "notes", Manifest: &bundle.Manifest{Command: []string{"x"}}, ImagePath: "/dev/null"}, nil
}

func (admits) Release(*agentloader.Admitted) {}

func (admits) Remove([]byte, func(string) (agentloader.Running, bool)) (*bundle.Removal, error) {
	return nil, errors.New("nothing to remove")
}

func TestWhatGoesWrongWithOneDeploymentCostsThatDeployment(t *testing.T) {
	var full, run atomic.Bool
	full.Store(true)
	f := &fetcher{
		c:        &child{log: slog.New(slog.DiscardHandler)},
		loader:   admits{},
		deployed: map[string]agentloader.Running{},
		log: answering(t, opAppend, func(context.Context, appendRequest) (appendReply, error) {
			if full.Load() {
				return appendReply{}, errors.New("provenance log is full")
			}
			return appendReply{}, nil
		}),
		sandboxd: answering(t, opRun, func(context.Context, runRequest) (nothing, error) {
			run.Store(true)
			return nothing{}, nil
		}),
	}
	reply, err := f.deploy(t.Context(), deployRequest{})
	if err != nil {
		t.Errorf("a full log powers the platform off: %v", err)
	}
	if run.Load() || reply.Started || reply.Instance != "notes-1" || !strings.Contains(reply.Reason, "full") {
		t.Errorf("without an entry the agent ran (%v); reply %+v", run.Load(), reply)
	}
	full.Store(false)
	if reply, err := f.deploy(t.Context(), deployRequest{}); err != nil || !run.Load() || !reply.Started {
		t.Errorf("with an entry: %+v, %v", reply, err)
	}
}

func TestTheFetcherGivesUpBeforePID1Does(t *testing.T) {
	f := &fetcher{c: &child{log: slog.New(slog.DiscardHandler)}}
	got := f.config(&policy.Document{Platform: "lab"}, fetcherStart{}, []byte("shim")).Timeout
	// What follows an admission (entries, starting runsc and clearing up after it) takes less than half a minute.
	if got <= 0 || got > deployTimeout-30*time.Second {
		t.Errorf("an admission may take %v, PID 1 waits %v", got, deployTimeout)
	}
}
