package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"omega/internal/strictjson"
)

// promptArgs adds what every request to a model states of itself.
func promptArgs(text []byte, args map[string]any) (json.RawMessage, error) {
	sum := sha256.Sum256(text)
	all := maps.Clone(args)
	all["request_bytes"], all["request_sha256"] = len(text), hex.EncodeToString(sum[:])
	return strictjson.Canonical(all)
}

// keeps notes a wish for state at the provider.
func (e extras) keeps(name string, wish *bool) {
	if wish != nil && *wish {
		e[name] = true
	}
}

// kept is a wish that needs to be said: absent is no.
func kept(wish *bool) *bool {
	if wish == nil || !*wish {
		return nil
	}
	return wish
}

// image accepts one that is inside of the request; the provider would fetch a
// remote one.
func (e extras) image(url string) error {
	switch {
	case strings.HasPrefix(url, "data:image/"):
		return nil
	case len(url) > maxURL || !strings.HasPrefix(url, "https://"):
		return errors.New("an image is neither inside of the request (data:image/…) nor at an https URL")
	}
	list, _ := e["urls"].([]string)
	e["urls"] = append(list, url)
	return nil
}

// urlsIn notes every URL in a provider's tool, and writes nothing anew: the
// interface of such a tool is the provider's.
func (e extras) urlsIn(raw json.RawMessage, limits strictjson.Limits) error {
	var v any
	if err := strictjson.Decode(raw, &v, limits); err != nil {
		return err
	}
	list, _ := e["urls"].([]string)
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			if strings.Contains(v, "://") {
				list = append(list, clip(v, maxURL))
			}
		case []any:
			for _, x := range v {
				walk(x)
			}
		case map[string]any:
			for _, k := range sortedKeys(v) {
				walk(v[k])
			}
		}
	}
	if walk(v); len(list) > 0 {
		e["urls"] = list
	}
	return nil
}

// tool is one of a request: in chat completions a function lies under its own
// name, in responses beside its type. A tool of another type is run by the
// provider; it passes as it came, where the policy names its type.
type tool struct {
	kind, name string
	raw        json.RawMessage
}

type function struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Parameters  json.RawMessage `json:"parameters,omitempty"`
	Strict      *bool           `json:"strict,omitempty"`
}

// UnmarshalJSON keeps a tool for check, which knows the interface.
func (t *tool) UnmarshalJSON(b []byte) error {
	t.raw = append(json.RawMessage(nil), b...)
	return nil
}

// MarshalJSON writes a tool as it was checked.
func (t tool) MarshalJSON() ([]byte, error) { return t.raw, nil }

// check reads a tool strictly; nested is the form of chat completions.
func (t *tool) check(more extras, nested bool) error {
	limits := strictjson.Limits{MaxBytes: maxChat, MaxValues: maxChatValues}
	var kind struct {
		Type string `json:"type"`
	}
	loose := limits
	loose.AllowUnknown = true
	if err := strictjson.Decode(t.raw, &kind, loose); err != nil {
		return fmt.Errorf("tool: %w", err)
	}
	if t.kind = kind.Type; t.kind != "function" {
		list, _ := more["tools"].([]string)
		more["tools"] = append(list, clip(t.kind, 80))
		t.name = t.kind
		return more.urlsIn(t.raw, limits)
	}
	var f function
	var form any
	if nested {
		c := struct {
			Type     string    `json:"type"`
			Function *function `json:"function"`
		}{Function: &f}
		if err := strictjson.Decode(t.raw, &c, limits); err != nil {
			return fmt.Errorf("tool: %w", err)
		}
		form = c
	} else {
		var c struct {
			Type string `json:"type"`
			function
		}
		if err := strictjson.Decode(t.raw, &c, limits); err != nil {
			return fmt.Errorf("tool: %w", err)
		}
		f, form = c.function, c
	}
	if t.name = f.Name; t.name == "" {
		return errors.New("tool without a name")
	}
	var err error
	t.raw, err = strictjson.Canonical(form)
	return err
}

func toolNames(tools []tool) []string {
	names := []string{}
	for _, t := range tools {
		names = append(names, t.name)
	}
	return names
}
