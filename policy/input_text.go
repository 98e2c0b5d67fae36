package policy

import (
	"encoding/json"

	"omega/internal/strictjson"
)

// Encode gives the canonical form, the one that is decided, logged and replayed.
// It is what strictjson.Canonical would write, in one pass.
func (in Input) Encode() ([]byte, error) {
	if len(in.Args) == 0 {
		in.Args = json.RawMessage("{}")
	}
	o := strictjson.NewObject(make([]byte, 0, 512+len(in.Args)))
	o.Text("action", in.Action)
	o.Value("agent", map[string]string{"instance": in.Agent.Instance, "name": in.Agent.Name})
	o.Value("args", in.Args)
	o.Text("resource", in.Resource)
	if in.Session != "" {
		o.Text("session", in.Session)
	}
	state, err := in.State.encode()
	if err != nil {
		return nil, err
	}
	o.Value("state", json.RawMessage(state))
	return o.End()
}

func (s InputState) encode() ([]byte, error) {
	if s.Counts == nil {
		s.Counts = map[string]int{}
	}
	if s.Labels == nil {
		s.Labels = []string{}
	}
	o := strictjson.NewObject(nil)
	texts := func(name string, list []string) {
		if len(list) > 0 {
			o.Value(name, list)
		}
	}
	texts("approvals", s.Approvals)
	if len(s.Budgets) > 0 {
		o.Value("budgets", s.Budgets)
	}
	if len(s.Charges) > 0 {
		o.Value("charges", s.Charges)
	}
	o.Value("counts", s.Counts)
	texts("endorsed", s.Endorsed)
	o.Value("labels", s.Labels)
	texts("narrowed", s.Narrowed)
	if s.Now != 0 {
		o.Value("now", s.Now)
	}
	if len(s.Rates) > 0 {
		o.Value("rates", s.Rates)
	}
	if len(s.SessionCounts) > 0 {
		o.Value("session_counts", s.SessionCounts)
	}
	return o.End()
}
