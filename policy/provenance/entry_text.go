package provenance

import (
	"encoding/json"
	"fmt"
	"strconv"
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
	b = append(b, '{')
	text := func(name, value string) {
		if value != "" {
			b = strictjson.AppendString(field(b, name), value)
		}
	}
	text("action", e.Action)
	text("agent", e.Agent)
	text("decision", e.Decision)
	text("identity", hexOrEmpty(e.Identity))
	var err error
	if b, err = appendRaw(b, "input", e.Input); err != nil {
		return nil, err
	}
	if e.Intent != nil {
		b = strconv.AppendUint(field(b, "intent"), *e.Intent, 10)
	}
	b = strictjson.AppendString(field(b, "kind"), e.Kind)
	text("policy_digest", hexOrEmpty(e.PolicyDigest))
	if len(e.Reasons) > 0 {
		if b, err = strictjson.Append(field(b, "reasons"), e.Reasons); err != nil {
			return nil, err
		}
	}
	text("resource", e.Resource)
	if b, err = appendRaw(b, "result", e.Result); err != nil {
		return nil, err
	}
	text("rule", e.Rule)
	b = append(field(b, "time"), '"')
	b = e.Time.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, '"', '}'), nil
}

// field begins the next member of an object.
func field(b []byte, name string) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	b = append(b, '"')
	b = append(b, name...)
	return append(b, '"', ':')
}

func appendRaw(b []byte, name string, raw json.RawMessage) ([]byte, error) {
	if len(raw) == 0 {
		return b, nil
	}
	return strictjson.Append(field(b, name), raw)
}
