package bundle

import (
	"encoding/json"
	"fmt"

	"omega/internal/strictjson"
)

// Descriptor is one pinned tool of an MCP server, as tools/list gives it (MCP, Tool).
type Descriptor struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	InputSchema json.RawMessage `json:"input_schema"`
}

// maxTools bounds the tools of one server.
const maxTools = 512

// ParseDescriptors reads a tool descriptors layer.
func ParseDescriptors(b []byte) ([]Descriptor, error) {
	var list []Descriptor
	if err := strictjson.Decode(b, &list, strictjson.Limits{MaxBytes: MaxTools}); err != nil {
		return nil, fmt.Errorf("tool descriptors: %w", err)
	}
	if len(list) == 0 || len(list) > maxTools {
		return nil, fmt.Errorf("tool descriptors: %d tools", len(list))
	}
	seen := map[string]bool{}
	for _, d := range list {
		if d.Name == "" || len(d.Name) > 128 || seen[d.Name] {
			return nil, fmt.Errorf("tool descriptors: tool name %.140q", d.Name)
		}
		var schema map[string]any
		if err := strictjson.Decode(d.InputSchema, &schema, strictjson.Limits{MaxBytes: MaxTools}); err != nil || schema == nil {
			return nil, fmt.Errorf("tool descriptors: tool %q: input schema is not an object", d.Name)
		}
		seen[d.Name] = true
	}
	return list, nil
}

// MarshalDescriptors writes a tool descriptors layer in canonical form.
func MarshalDescriptors(list []Descriptor) ([]byte, error) {
	b, err := strictjson.Canonical(list)
	if err != nil {
		return nil, fmt.Errorf("tool descriptors: %w", err)
	}
	if _, err := ParseDescriptors(b); err != nil {
		return nil, err
	}
	return b, nil
}
