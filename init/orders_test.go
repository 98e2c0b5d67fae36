package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"omega/agentloader"
	"omega/agentloader/bundle"
	"omega/init/internal/front"
	"omega/internal/wire"
	"omega/policy/provenance"
)

// orderly is a fetcher with everything around it made up but what it decides.
type orderly struct {
	*fetcher
	mu      sync.Mutex
	entries []provenance.Entry
	ran     []string
	stopped []stopRequest
	ended   bool // the agents have ended already
}

func newOrderly(t *testing.T, l admitter) *orderly {
	t.Helper()
	o := &orderly{}
	o.fetcher = &fetcher{c: &child{log: slog.New(slog.DiscardHandler)}, loader: l, deployed: map[string]agentloader.Running{}}
	o.log = answering(t, opAppend, func(_ context.Context, req appendRequest) (appendReply, error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.entries = append(o.entries, req.Entry)
		return appendReply{}, nil
	})
	o.sandboxd = answeringAll(t, map[string]wire.Handler{opRun: handle(func(_ context.Context, req runRequest) (nothing, error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.ran = append(o.ran, req.Instance)
		return nothing{}, nil
	}), opStop: handle(func(_ context.Context, req stopRequest) (stopReply, error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.stopped = append(o.stopped, req)
		return stopReply{Found: !o.ended, State: "stopped", Code: 3}, nil
	})})
	return o
}

// seen is what was entered, run and stopped so far.
func (o *orderly) seen() (entries []provenance.Entry, ran []string, stopped []stopRequest) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.entries), slices.Clone(o.ran), slices.Clone(o.stopped)
}

// answers is a loader that says what it is told to.
type answers struct {
	admit  func(deployment []byte, may func(string) bool) (*agentloader.Admitted, error)
	remove func(removal []byte, find func(string) (agentloader.Running, bool)) (*bundle.Removal, error)

	released *int // how many admissions were given up
}

func (a answers) AdmitFor(_ context.Context, d []byte, may func(string) bool) (*agentloader.Admitted, error) {
	return a.admit(d, may)
}

func (a answers) Release(*agentloader.Admitted) { *a.released++ }

func (a answers) Remove(r []byte, find func(string) (agentloader.Running, bool)) (*bundle.Removal, error) {
	return a.remove(r, find)
}

// notes admits every deployment as notes-1, and removes what may be found.
func notes() answers {
	digest := bundle.DigestOf([]byte("notes"))
	return answers{
		released: new(int),
		admit: func(_ []byte, may func(string) bool) (*agentloader.Admitted, error) {
			if !may("notes") {
				return nil, &agentloader.Refusal{Instance: "notes-1", Name: "notes", Reason: agentloader.ErrCaller}
			}
			return &agentloader.Admitted{Instance: "notes-1", Name: "notes", Bundle: digest, Manifest: &bundle.Manifest{Command: []string{"x"}}, ImagePath: "/dev/null"}, nil
		},
		remove: func(raw []byte, find func(string) (agentloader.Running, bool)) (*bundle.Removal, error) {
			r, err := bundle.ParseRemoval(raw)
			if err != nil {
				return nil, &agentloader.Refusal{Reason: agentloader.ErrRemoval}
			}
			if _, ok := find(r.Instance); !ok {
				return nil, &agentloader.Refusal{Instance: r.Instance, Reason: agentloader.ErrInstance}
			}
			return r, nil
		},
	}
}

func removalOf(t *testing.T, instance string) []byte {
	t.Helper()
	key, err := bundle.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := bundle.SignRemoval(key, bundle.Removal{Bundle: bundle.DigestOf([]byte("notes")), Instance: instance, Audience: "lab",
		Serial: 1, Expires: time.Now().Add(time.Hour), GraceSeconds: 7})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestOrdersAreCarriedOutAndEntered(t *testing.T) {
	o := newOrderly(t, notes())
	order := func(statement []byte, caller, removes string, names ...string) orderReply {
		t.Helper()
		reply, err := o.order(t.Context(), orderRequest{Statement: statement, Caller: caller, Names: names, Removes: removes})
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	removal := removalOf(t, "notes-1")
	steps := []struct {
		name  string
		reply orderReply
		code  string
		entry string // kind and action of the entry that was made
	}{
		{"a removal of what does not run", order(removal, "duty", "", "notes"), front.CodeNoSuchAgent, "refusal remove"},
		{"a deployment by somebody without the right", order([]byte("{}"), "blue", "", "blue-1"), front.CodeNoRight, "refusal deploy"},
		{"a deployment", order([]byte("{}"), "duty", "", "notes"), "", "admission deploy"},
		{"a second one of that name", order([]byte("{}"), "duty", "", "notes"), front.CodeTaken, "refusal deploy"},
		{"a removal by somebody without the right", order(removal, "blue", "", "blue-1"), front.CodeNoSuchAgent, "refusal remove"},
		{"a deployment where a removal is wanted", order([]byte("{}"), "duty", "notes-1", "notes"), front.CodeMalformed, "refusal remove"},
		{"a removal", order(removal, "duty", "notes-1", "notes"), "", "removal remove"},
	}
	entries, ran, stopped := o.seen()
	if len(entries) != len(steps) || len(ran) != 1 || len(stopped) != 1 || stopped[0] != (stopRequest{"notes-1", 7 * time.Second}) {
		t.Fatalf("%d entries of %d steps; ran %v, stopped %v", len(entries), len(steps), ran, stopped)
	}
	for i, step := range steps {
		e := entries[i]
		if step.reply.Code != step.code || step.reply.Done != (step.code == "") || step.code != "" && step.reply.Reason == "" {
			t.Errorf("%s: %+v", step.name, step.reply)
		}
		if got := e.Kind + " " + e.Action; got != step.entry || !strings.Contains(string(e.Result), `"caller":"`) {
			t.Errorf("%s: the log has %q %s", step.name, got, e.Result)
		}
		if e.Kind == provenance.KindRefusal && len(e.Reasons) == 0 {
			t.Errorf("%s: the log does not say why", step.name)
		}
		if e.Kind == provenance.KindRefusal && !strings.HasPrefix(e.Agent, "caller/") {
			t.Errorf("%s: it takes the share of the log that is agent %s's", step.name, e.Agent)
		}
	}
	if reply := order(removalOf(t, "other"), "duty", "notes-1", "notes"); reply.Code != front.CodeMalformed {
		t.Errorf("a removal of another instance than asked for: %+v", reply)
	}
	if _, _, stopped = o.seen(); len(stopped) != 1 {
		t.Errorf("stopped %v", stopped)
	}
	o.mu.Lock()
	o.ended = true
	o.mu.Unlock()
	if reply := order(removal, "duty", "", "notes"); reply.Done || reply.Code != front.CodeEnded {
		t.Errorf("a removal of what has ended: %+v", reply)
	}
	if _, err := o.order(t.Context(), orderRequest{Statement: []byte("{}"), Names: []string{"notes"}}); err == nil {
		t.Error("an order of nobody's is carried out")
	}
}

func TestWhatIsNotStartedHoldsNothing(t *testing.T) {
	for name, spoil := range map[string]func(*orderly){
		"a name that is taken":                      func(o *orderly) { o.deployed["notes-1"] = agentloader.Running{} },
		"a bundle that is not what the policy says": func(o *orderly) { o.servers = map[string]bool{"notes": true} },
	} {
		loader := notes()
		o := newOrderly(t, loader)
		spoil(o)
		reply, err := o.order(t.Context(), orderRequest{Statement: []byte("{}"), Caller: "duty", Names: []string{"notes"}})
		if err != nil || reply.Done || *loader.released != 1 {
			t.Errorf("%s: %+v, %v; released %d times", name, reply, err, *loader.released)
		}
	}
}

func TestNothingIsStoppedThatTheLogDoesNotHave(t *testing.T) {
	o := newOrderly(t, notes())
	o.deployed["notes-1"] = agentloader.Running{Name: "notes", Bundle: bundle.DigestOf([]byte("notes"))}
	o.log = answering(t, opAppend, func(context.Context, appendRequest) (appendReply, error) {
		return appendReply{}, errors.New("provenance log is full")
	})
	_, err := o.order(t.Context(), orderRequest{Statement: removalOf(t, "notes-1"), Caller: "duty", Names: []string{"notes"}})
	if _, _, stopped := o.seen(); err == nil || len(stopped) > 0 {
		t.Errorf("%v, stopped %v", err, stopped)
	}
}

func TestEachRefusalHasItsOwnCode(t *testing.T) {
	for err, want := range map[error]string{
		bundle.ErrSignature: front.CodeSignature, bundle.ErrUnsigned: front.CodeSignature, agentloader.ErrExpired: front.CodeExpired,
		agentloader.ErrAudience: front.CodeAudience, agentloader.ErrReplayed: front.CodeReplayed, agentloader.ErrCaller: front.CodeNoRight,
		agentloader.ErrInstance: front.CodeNoSuchAgent, agentloader.ErrDeployment: front.CodeMalformed, agentloader.ErrRemoval: front.CodeMalformed,
		errors.New("anything else"):                                 front.CodeRefused,
		errors.Join(agentloader.ErrDeployment, bundle.ErrSignature): front.CodeSignature,
	} {
		if got := refused(&agentloader.Refusal{Reason: err}); got.Code != want || got.Done {
			t.Errorf("%v: %+v, want %s", err, got, want)
		}
	}
}
