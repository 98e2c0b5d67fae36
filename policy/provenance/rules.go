package provenance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// An Anomaly is something in a readable log that an auditor should look at.
type Anomaly struct {
	Index uint64 `json:"index"`
	// Violation reports an anomaly that an honest platform cannot cause. The
	// others can come from a power cut or a clock that the host moved.
	Violation bool   `json:"violation"`
	Words     string `json:"words"`
}

// maxAnomalies bounds what a hostile log can make a reader keep: so many
// violations, and beside them so many others, which must not hide violations.
const maxAnomalies = 1000

// rules judge entries in their order.
type rules struct {
	found   []Anomaly
	kept    map[bool]int // how many were found, by whether they are violations
	seen    bool
	last    time.Time
	policy  [32]byte
	running map[string]bool   // agents that were started and have not exited
	open    map[uint64]string // permitted intents without an outcome: their agents
	denied  map[uint64]bool
	closed  map[uint64]bool

	approved map[[2]string]bool // by agent and principal
}

func (r *rules) add(index uint64, violation bool, format string, args ...any) {
	if r.kept == nil {
		r.kept = map[bool]int{}
	}
	if r.kept[violation]++; r.kept[violation] <= maxAnomalies {
		r.found = append(r.found, Anomaly{Index: index, Violation: violation, Words: fmt.Sprintf(format, args...)})
	}
}

// entry judges the next entry.
func (r *rules) entry(index uint64, e *Entry) {
	if !r.seen {
		r.seen = true
		r.running, r.open = map[string]bool{}, map[uint64]string{}
		r.denied, r.closed = map[uint64]bool{}, map[uint64]bool{}
		if e.Kind != KindBoot {
			r.add(index, true, "the log begins with %s, not with boot", e.Kind)
		}
	} else if e.Kind == KindBoot {
		r.add(index, true, "a second boot in one log")
	}
	if e.Time.Before(r.last) {
		r.add(index, false, "time goes back by %s", r.last.Sub(e.Time).Round(time.Millisecond))
	}
	r.last = e.Time
	r.onePolicy(index, e)
	switch e.Kind {
	case KindStart:
		r.running[e.Agent] = true
	case KindExit:
		delete(r.running, e.Agent)
	case KindIntent:
		r.intent(index, e)
	case KindOutcome:
		r.outcome(index, e)
	case KindApproval:
		r.approval(e)
	}
}

// approval keeps whose approval was taken for an agent.
func (r *rules) approval(e *Entry) {
	var said struct {
		Principal string `json:"principal"`
	}
	if json.Unmarshal(e.Result, &said) != nil {
		return // then no intent may name one
	}
	if r.approved == nil {
		r.approved = map[[2]string]bool{}
	}
	r.approved[[2]string{e.Agent, said.Principal}] = true
}

// approvals demands that what an intent was approved by stands before it.
func (r *rules) approvals(index uint64, e *Entry) {
	var in struct {
		State struct {
			Approvals []string `json:"approvals"`
		} `json:"state"`
	}
	if !bytes.Contains(e.Input, []byte(`"approvals"`)) || json.Unmarshal(e.Input, &in) != nil {
		return
	}
	for _, p := range in.State.Approvals {
		if !r.approved[[2]string{e.Agent, p}] {
			r.add(index, true, "agent %s: the intent is approved by %s, of whom no approval was taken before", e.Agent, p)
		}
	}
}

// onePolicy holds every decision of a boot to the policy that was measured.
func (r *rules) onePolicy(index uint64, e *Entry) {
	switch {
	case e.PolicyDigest == [32]byte{}:
	case r.policy == [32]byte{}:
		r.policy = e.PolicyDigest
	case r.policy != e.PolicyDigest:
		r.add(index, true, "policy %x stands where the log began with %x", e.PolicyDigest[:4], r.policy[:4])
	}
}

func (r *rules) intent(index uint64, e *Entry) {
	if !r.running[e.Agent] {
		r.add(index, false, "agent %s acts, but no start of it is in the log or it has exited", e.Agent)
	}
	r.approvals(index, e)
	if e.Decision == Permit {
		r.open[index] = e.Agent
	} else {
		r.denied[index] = true
	}
}

// outcome demands one earlier, permitted intent of the same agent.
func (r *rules) outcome(index uint64, e *Entry) {
	intent := *e.Intent
	agent, ok := r.open[intent]
	switch {
	case r.denied[intent]:
		r.add(index, true, "outcome of intent %d, which was denied", intent)
	case r.closed[intent]:
		r.add(index, true, "second outcome of intent %d", intent)
	case !ok:
		r.add(index, true, "outcome of %d, which is no earlier intent", intent)
	case agent != e.Agent:
		r.add(index, true, "outcome of agent %s for intent %d of agent %s", e.Agent, intent, agent)
	default:
		delete(r.open, intent)
		r.closed[intent] = true
	}
}

// end adds the intents that nothing followed, and returns all in order.
func (r *rules) end() []Anomaly {
	for index, agent := range r.open {
		r.add(index, false, "agent %s: intent without an outcome: still running, or cut off", agent)
	}
	slices.SortStableFunc(r.found, func(a, b Anomaly) int { return int(int64(a.Index) - int64(b.Index)) })
	return r.found
}

// Violations counts what an honest platform cannot cause.
func (s *Summary) Violations() int {
	n := 0
	for _, a := range s.Anomalies {
		if a.Violation {
			n++
		}
	}
	return n
}
