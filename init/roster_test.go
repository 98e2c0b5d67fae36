package main

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"omega/attest"
	"omega/policy/provenance"
)

// fakeBox is a sandbox that is stopped at once.
type fakeBox struct {
	stops atomic.Int32
	grace time.Duration
	then  func()
}

func (b *fakeBox) Stop(_ context.Context, grace time.Duration) error {
	b.grace = grace
	b.stops.Add(1)
	if b.then != nil {
		b.then()
	}
	return nil
}

func (b *fakeBox) Output() []string { return []string{"now"} }

func TestTheRosterTellsOfEachAgentWhatHappenedToIt(t *testing.T) {
	r := &roster{}
	m := r.add(attest.Agent{Index: 1, Instance: "b", Name: "blue", State: attest.AgentAdmitted})
	r.add(attest.Agent{Index: 0, Instance: "a", Name: "red", State: attest.AgentAdmitted})
	if got := r.list([]string{"red", "blue"}); len(got) != 2 || got[0].Instance != "a" || got[1].State != attest.AgentAdmitted || got[1].ExitCode != nil {
		t.Errorf("%+v", got)
	}
	if got := r.list([]string{"red"}); len(got) != 1 || got[0].Name != "red" {
		t.Errorf("to who may see red: %+v", got)
	}
	if got := r.list(nil); len(got) != 0 {
		t.Errorf("to who may see none: %+v", got)
	}
	if !r.began(m, &fakeBox{}, false) {
		t.Error("an agent that nobody stopped may not run")
	}
	if _, lines := r.find("b", []string{"blue"}); !slices.Equal(lines, []string{"now"}) {
		t.Errorf("what it writes: %v", lines)
	}
	r.paused(m, 3, []string{"before"})
	if got := r.list([]string{"blue"})[0]; got.State != attest.AgentRunning || *got.ExitCode != 3 || got.Restarts != 0 {
		t.Errorf("between two runs: %+v", got)
	}
	if _, lines := r.find("b", []string{"blue"}); !slices.Equal(lines, []string{"before"}) {
		t.Errorf("what it wrote: %v", lines)
	}
	r.began(m, &fakeBox{}, true)
	r.paused(m, 0, nil)
	if state := r.over(m, attest.AgentExited); state != attest.AgentExited {
		t.Errorf("an agent that ended by itself is %s", state)
	}
	if got := r.list([]string{"blue"})[0]; got.State != attest.AgentExited || *got.ExitCode != 0 || got.Restarts != 1 {
		t.Errorf("at its end: %+v", got)
	}
	if out, err := r.end(t.Context(), "b", 0); out != nil || err != nil {
		t.Errorf("stopping what has ended: %+v, %v", out, err)
	}
	if m, _ := r.find("b", []string{"red"}); m != nil {
		t.Error("who may see red finds blue")
	}
}

func TestAnAgentThatIsToldToStopDoesNotComeBack(t *testing.T) {
	r := &roster{}
	m := r.add(attest.Agent{Instance: "a", Name: "red", State: attest.AgentAdmitted})
	box := &fakeBox{}
	box.then = func() { // what supervise does at the agent's end
		r.paused(m, 143, nil)
		if m.waits(t.Context(), time.Hour) {
			t.Error("it is started again")
		}
		r.over(m, attest.AgentExited)
	}
	r.began(m, box, false)
	out, err := r.end(t.Context(), "a", 5*time.Second)
	if err != nil || *out != (stopReply{Found: true, State: attest.AgentStopped, Code: 143}) || box.grace != 5*time.Second {
		t.Errorf("%+v, %v; grace %s", out, err, box.grace)
	}
}

func TestAnAgentThatIsStoppedWhileItStartsIsStoppedOnceItRuns(t *testing.T) {
	r := &roster{}
	m := r.add(attest.Agent{Instance: "a", Name: "red", State: attest.AgentAdmitted})
	done := make(chan *stopReply, 1)
	go func() {
		out, _ := r.end(t.Context(), "a", 0)
		done <- out
	}()
	<-m.stop
	if r.began(m, &fakeBox{}, false) {
		t.Error("it may run")
	}
	r.paused(m, 0, nil)
	r.over(m, attest.AgentExited)
	if out := <-done; out == nil || out.State != attest.AgentStopped {
		t.Errorf("%+v", out)
	}
}

func TestWhoReadsAnAgentsOutputIsInTheLogBefore(t *testing.T) {
	var full atomic.Bool
	var entry atomic.Pointer[provenance.Entry]
	s := &sandboxd{log: answering(t, opAppend, func(_ context.Context, req appendRequest) (appendReply, error) {
		if full.Load() {
			return appendReply{}, errors.New("provenance log is full")
		}
		entry.Store(&req.Entry)
		return appendReply{}, nil
	})}
	m := s.roster.add(attest.Agent{Instance: "a", Name: "red", Identity: attest.Bytes32{7}, State: attest.AgentAdmitted})
	s.roster.began(m, &fakeBox{}, false)
	ask := outputRequest{Instance: "a", Caller: "duty", Names: []string{"red"}}
	reply, err := s.output(t.Context(), ask)
	if err != nil || !reply.Found || !slices.Equal(reply.Lines, []string{"now"}) {
		t.Fatalf("%+v, %v", reply, err)
	}
	e := entry.Load()
	if e.Kind != provenance.KindReading || e.Agent != "a" || e.Identity != (attest.Bytes32{7}) || string(e.Result) != `{"caller":"duty","lines":1}` {
		t.Errorf("the log has %+v", e)
	}
	ask.Names = []string{"blue"}
	if reply, err := s.output(t.Context(), ask); err != nil || reply.Found || reply.Lines != nil {
		t.Errorf("another's agent: %+v, %v", reply, err)
	}
	entry.Store(nil)
	ask.Names = []string{"red"}
	if reply, err := s.output(t.Context(), ask); err != nil || !reply.Found || entry.Load() != nil {
		t.Errorf("soon after: %+v, %v, entry %+v", reply, err, entry.Load())
	}
	if now := time.Now(); s.roster.unread(m, "duty", now) || !s.roster.unread(m, "duty", now.Add(readingEvery)) || !s.roster.unread(m, "duty", now.Add(-time.Hour)) {
		t.Error("an entry holds for another time than a minute")
	}
	full.Store(true)
	ask.Caller = "somebody else"
	if reply, err := s.output(t.Context(), ask); err == nil || reply.Lines != nil {
		t.Errorf("without an entry: %+v, %v", reply, err)
	}
}
