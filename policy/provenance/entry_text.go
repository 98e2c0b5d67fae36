package provenance

import (
	"fmt"
	"time"

	"omega/internal/strictjson"
)

// Encode is the canonical JSON of a valid entry.
func (e Entry) Encode() ([]byte, error) {
	if err := e.Validate(); err != nil {
		return nil, err
	}
	b, err := e.append(make([]byte, 0, 512+len(e.Input)+len(e.Result)))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if len(b) > MaxEntry {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(b), MaxEntry)
	}
	return b, nil
}

// append writes the fields of entryJSON that are not empty, in the order of
// their names. Two entries stand in the way of every call, so this does at once
// what encoding/json and strictjson.Canonical would do one after the other.
func (e Entry) append(b []byte) ([]byte, error) {
	o := strictjson.NewObject(b)
	text := func(name, value string) {
		if value != "" {
			o.Text(name, value)
		}
	}
	text("action", e.Action)
	text("agent", e.Agent)
	text("decision", e.Decision)
	text("identity", hexOrEmpty(e.Identity))
	if len(e.Input) > 0 {
		o.Value("input", e.Input)
	}
	if e.Intent != nil {
		o.Value("intent", *e.Intent)
	}
	o.Text("kind", e.Kind)
	text("policy_digest", hexOrEmpty(e.PolicyDigest))
	if len(e.Reasons) > 0 {
		o.Value("reasons", e.Reasons)
	}
	text("resource", e.Resource)
	if len(e.Result) > 0 {
		o.Value("result", e.Result)
	}
	text("rule", e.Rule)
	o.Text("time", e.Time.UTC().Format(time.RFC3339Nano))
	return o.End()
}
