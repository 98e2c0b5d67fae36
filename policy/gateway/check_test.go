package gateway_test

import (
	"encoding/json"
	"testing"

	"omega/policy/gateway"
)

func TestAnAgentThatCouldNotBeServedIsFoundBefore(t *testing.T) {
	w := newWorld(t)
	if err := w.gw.Check(w.agent); err != nil {
		t.Errorf("a good agent: %v", err)
	}
	for name, spoil := range map[string]func(*gateway.Agent){
		"unknown agent":  func(a *gateway.Agent) { a.Name = "stranger" },
		"no instance":    func(a *gateway.Agent) { a.Instance = "" },
		"unknown server": func(a *gateway.Agent) { a.Tools = []gateway.Tool{{Server: "x", Descriptors: json.RawMessage(tools)}} },
		"odd name of a tool": func(a *gateway.Agent) {
			a.Tools = []gateway.Tool{{Server: "files", Descriptors: json.RawMessage(`[{"name":"a b","description":"","input_schema":{}}]`)}}
		},
	} {
		agent := w.agent
		spoil(&agent)
		if err := w.gw.Check(agent); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
