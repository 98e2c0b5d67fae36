package policy

import (
	"encoding/json"
	"fmt"

	"omega/internal/strictjson"
)

// MaxInput bounds the decision input. Longer ones are denied.
const MaxInput = 256 << 10

// Decision is the answer for one call. The zero value denies.
type Decision struct {
	Permit  bool
	Rule    string   // the permit that allowed it
	Reasons []string // why not, in words for the agent
	Labels  []string // what the call adds to the instance's labels
	// Approval is the principal whose approval is all that a denied call lacks.
	Approval string
}

// Deny is a decision for reasons outside of the policy's rules.
func Deny(reasons ...string) Decision {
	return Decision{Reasons: reasons}
}

// Word is "permit" or "deny", as it stands in JSON and in the log.
func (d Decision) Word() string {
	if d.Permit {
		return "permit"
	}
	return "deny"
}

type decisionJSON struct {
	Decision string   `json:"decision"`
	Reasons  []string `json:"reasons"`
	Rule     string   `json:"rule"`
	Labels   []string `json:"labels"`
	Approval string   `json:"approval,omitempty"`
}

// MarshalJSON writes the form of `omega policy eval`.
func (d Decision) MarshalJSON() ([]byte, error) {
	out := decisionJSON{Decision: d.Word(), Reasons: d.Reasons, Rule: d.Rule, Labels: d.Labels, Approval: d.Approval}
	if out.Reasons == nil {
		out.Reasons = []string{}
	}
	if out.Labels == nil {
		out.Labels = []string{}
	}
	return strictjson.Canonical(out)
}

// UnmarshalJSON reads it, and denies whatever is not exactly a permit.
func (d *Decision) UnmarshalJSON(b []byte) error {
	var in decisionJSON
	if err := strictjson.Decode(b, &in, strictjson.Limits{MaxBytes: maxResult}); err != nil {
		return fmt.Errorf("decision: %w", err)
	}
	switch {
	case in.Decision == "permit" && in.Rule != "" && len(in.Reasons) == 0 && in.Approval == "":
	case in.Decision == "deny" && in.Rule == "":
	default:
		return fmt.Errorf("decision %.20q with rule %.70q and %d reasons", in.Decision, in.Rule, len(in.Reasons))
	}
	*d = Decision{Permit: in.Decision == "permit", Rule: in.Rule, Reasons: in.Reasons, Labels: in.Labels, Approval: in.Approval}
	return nil
}

// Input is what a decision depends on, together with the policy digest.
type Input struct {
	Agent    InputAgent      `json:"agent"`
	Action   string          `json:"action"`
	Resource string          `json:"resource"`
	Args     json.RawMessage `json:"args"` // an object
	State    InputState      `json:"state"`
	Session  string          `json:"session,omitempty"`
}

// InputAgent is who asks.
type InputAgent struct {
	Name     string `json:"name"`
	Instance string `json:"instance"`
}

// InputState is what the instance did before, as far as the rules for this
// call look at it. State makes it.
type InputState struct {
	Counts        map[string]int     `json:"counts"` // permitted calls by rule; "*" for all
	Labels        []string           `json:"labels"`
	SessionCounts map[string]int     `json:"session_counts,omitempty"`
	Rates         map[string]int     `json:"rates,omitempty"`     // calls within the rule's stretch of time
	Budgets       map[string]float64 `json:"budgets,omitempty"`   // used, by name and RULE:NAME
	Charges       map[string]float64 `json:"charges,omitempty"`   // what this call would use
	Endorsed      []string           `json:"endorsed,omitempty"`  // arguments that equal trusted values
	Approvals     []string           `json:"approvals,omitempty"` // principals that approved this very call
	Narrowed      []string           `json:"narrowed,omitempty"`  // rules that were taken away
	Now           int64              `json:"now,omitempty"`       // seconds since 1970
}

// ParseInput reads a decision input strictly.
func ParseInput(b []byte) (Input, error) {
	var in Input
	if err := strictjson.Decode(b, &in, strictjson.Limits{MaxBytes: MaxInput}); err != nil {
		return Input{}, fmt.Errorf("decision input: %w", err)
	}
	var args map[string]any // RawMessage keeps numbers from the check for exactness
	if err := strictjson.Decode(in.Args, &args, strictjson.Limits{MaxBytes: MaxInput}); err != nil {
		return Input{}, fmt.Errorf("decision input: args: %w", err)
	}
	if args == nil {
		return Input{}, fmt.Errorf("decision input: args is not an object")
	}
	return in, nil
}
