package verifier_test

import (
	"testing"

	"omega/attest"
	"omega/attest/verifier"
)

// shared is a world of two instances of one agent, which show their parts once.
func shared(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	var set attest.AgentSet
	for _, a := range []attest.Agent{agentAt(0), agentAt(1)} {
		var err error
		if set, err = set.With(a); err != nil {
			t.Fatal(err)
		}
	}
	view := attest.View{Visible: func(string) bool { return true }}
	if err := view.Show(w.e, set); err != nil {
		t.Fatal(err)
	}
	w.seal()
	return w
}

func TestWhatAgentsShareIsAppraisedForEach(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*world)
		check  string
	}{
		{"nothing", func(*world) {}, ""},
		{"the component is not there", func(w *world) { w.e.Agents[1].Components[0].Known[0]++ }, "agent a-1"},
		{"it is another", func(w *world) { w.e.Agents[1].Components[0].Known = w.e.Agents[1].Components[1].Known }, "agent a-1"},
		{"its salt is another", func(w *world) { w.e.Agents[1].Components[0].Salt[0]++ }, "agent a-1"},
		{"it stands behind the one that leans on it", func(w *world) {
			w.e.Agents[0].Components[1], w.e.Agents[1].Components[1] = w.e.Agents[1].Components[1], w.e.Agents[0].Components[1]
			w.e.Agents[0].Components[1].Salt, w.e.Agents[1].Components[1].Salt = w.e.Agents[1].Components[1].Salt, w.e.Agents[0].Components[1].Salt
		}, "agent a-0"},
		{"it is signed by nobody", func(w *world) { w.e.Agents[0].Components[0].Signatures = nil }, "agent a-0"},
	} {
		w := shared(t)
		if w.e.Agents[1].Components[0].Known.IsZero() {
			t.Fatal("the second agent repeats what the first shows")
		}
		tt.change(w)
		r, err := verifier.Appraise(w.e, w.p)
		if failed(r) != tt.check || (err != nil) != (tt.check != "") {
			t.Errorf("%s: %q failed, want %q: %v", tt.name, failed(r), tt.check, err)
		}
	}
}
