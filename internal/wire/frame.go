package wire

import (
	"encoding/json"
	"fmt"
	"strconv"

	"omega/internal/strictjson"
)

// maxError bounds the text of an error reply.
const maxError = 4 << 10

// maxDepth bounds nesting. Bodies carry JSON of agents and bundles that may use
// strictjson's whole default depth; wrapping it must not make a frame that the
// peer takes for a violation, because that ends the connection.
const maxDepth = 64

// frame is one message: a request has an op, a reply has none.
type frame struct {
	ID    uint64          `json:"id"`
	Op    string          `json:"op,omitempty"`
	Error string          `json:"error,omitempty"`
	Body  json.RawMessage `json:"body,omitempty"`
}

// encode makes the frame's bytes; a nil body is left out. It refuses what the
// peer would take for a violation: a body can carry foreign JSON, and that must
// cost its sender one call, not both ends the connection.
func (f *frame) encode(body any) ([]byte, error) {
	b := strconv.AppendUint([]byte(`{"id":`), f.ID, 10)
	if f.Op != "" {
		b = strictjson.AppendString(append(b, `,"op":`...), f.Op)
	}
	if f.Error != "" {
		b = strictjson.AppendString(append(b, `,"error":`...), f.Error)
	}
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encoding body: %w", err)
		}
		b = append(append(b, `,"body":`...), raw...)
	}
	b = append(b, '}')
	if len(b) > MaxMessage {
		return nil, ErrTooLarge
	}
	if err := strictjson.Check(b, limits()); err != nil {
		return nil, fmt.Errorf("encoding frame: %w", err)
	}
	return b, nil
}

// parseFrame reads a frame strictly.
func parseFrame(b []byte) (*frame, error) {
	var f frame
	if err := strict(b, &f); err != nil {
		return nil, fmt.Errorf("%w: frame: %w", ErrProtocol, err)
	}
	if f.ID == 0 {
		return nil, fmt.Errorf("%w: frame without id", ErrProtocol)
	}
	return &f, nil
}

// Body decodes a message body strictly: unknown fields and trailing bytes are
// refused. An absent body is the zero value.
func Body[T any](raw json.RawMessage) (T, error) {
	var v, zero T
	if len(raw) == 0 {
		return zero, nil
	}
	if err := strict(raw, &v); err != nil {
		return zero, fmt.Errorf("body: %w", err)
	}
	return v, nil
}

// strict decodes what a peer sent. How many values a body may have is for who
// took them from outside: here one too many would end the connection.
func strict(raw []byte, v any) error {
	return strictjson.Decode(raw, v, limits())
}

func limits() strictjson.Limits {
	return strictjson.Limits{MaxBytes: MaxMessage, MaxDepth: maxDepth, MaxValues: MaxMessage}
}
