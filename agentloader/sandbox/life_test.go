package sandbox

import (
	"context"
	"testing"
	"time"
)

func TestASandboxOfThePoolRunsNothingOfItsAgentUntilItIsReleased(t *testing.T) {
	s := setUp(t)
	box := s.prepare(t, "who")
	<-box.Booted()
	select {
	case <-box.Done():
		t.Fatalf("it has ended: %+v", box.exit)
	case <-time.After(300 * time.Millisecond): // a released one takes a tenth of that
	}
	if said := box.Output(); len(said) != 0 {
		t.Fatalf("the agent ran: %q", said)
	}
	if err := box.Release("who-1"); err != nil {
		t.Fatal(err)
	}
	if exit := wait(t, box); exit.Code != 0 {
		t.Errorf("%+v", exit)
	}
	if err := box.Release("who-2"); err == nil {
		t.Error("released twice")
	}
	s.nothingLeft(t)
}

func TestASandboxThatNobodyReleasesCanBeEnded(t *testing.T) {
	s := setUp(t)
	box := s.prepare(t, "who")
	if err := box.Kill(); err != nil {
		t.Fatal(err)
	}
	other := s.prepare(t, "who")
	<-other.Booted()
	_ = other.gate.Close() // as when the platform's process ends
	if exit := wait(t, other); exit.Code != 127 {
		t.Errorf("%+v", exit)
	}
	s.nothingLeft(t)
}

func TestAnAgentEndsWithThePlatform(t *testing.T) {
	s := setUp(t)
	box := s.start(t, "left-1", "stubborn")
	for len(box.Output()) == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	_ = box.gate.Close()
	if exit := wait(t, box); exit.Code != 137 {
		t.Errorf("%+v", exit)
	}
}

// prepare starts a sandbox that waits at its gate.
func (s *stage) prepare(t testing.TB, words ...string) *Sandbox {
	t.Helper()
	env, err := Env(map[string]string{"MODE": "test"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	box, err := s.runner.Prepare(context.Background(), Spec{
		Hostname: "who-1", Image: s.image, Command: append([]string{"/agent"}, words...), Env: env, Link: link(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = box.Kill() })
	return box
}
