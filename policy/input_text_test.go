package policy

import (
	"encoding/json"
	"reflect"
	"testing"

	"omega/internal/strictjson"
)

// TestAnInputIsWrittenAsItsTypeSays fills each field of the type, so that none
// can be forgotten.
func TestAnInputIsWrittenAsItsTypeSays(t *testing.T) {
	full := Input{
		Agent: InputAgent{Name: "a<&>", Instance: "a-1"}, Action: "x", Resource: "y\n", Session: "s", Args: json.RawMessage(` {"b":1.0,"a":["\u0041"]} `),
		State: InputState{
			Counts: map[string]int{"b": 2, "*": 1}, Labels: []string{"l"}, SessionCounts: map[string]int{"r": 1}, Rates: map[string]int{"r": 3},
			Budgets: map[string]float64{"tokens": 0.5}, Charges: map[string]float64{"bytes": 12}, Endorsed: []string{"to"}, Approvals: []string{"p"}, Narrowed: []string{"n"}, Now: 1 << 40,
		},
	}
	for _, v := range []reflect.Value{reflect.ValueOf(full), reflect.ValueOf(full.State), reflect.ValueOf(full.Agent)} {
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("the test leaves out %s", v.Type().Field(i).Name)
			}
		}
	}
	least := Input{Args: json.RawMessage("{}"), State: InputState{Counts: map[string]int{}, Labels: []string{}}}
	for _, in := range []Input{full, least} {
		want, err := strictjson.Canonical(in)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := in.Encode(); err != nil || string(got) != string(want) {
			t.Errorf("%s (%v), want %s", got, err, want)
		}
	}
	if got, err := (Input{}).Encode(); err != nil || string(got) != `{"action":"","agent":{"instance":"","name":""},"args":{},"resource":"","state":{"counts":{},"labels":[]}}` {
		t.Errorf("%s (%v)", got, err)
	}
	if _, err := (Input{Args: json.RawMessage("{")}).Encode(); err == nil {
		t.Error("arguments that are no JSON were written")
	}
}
