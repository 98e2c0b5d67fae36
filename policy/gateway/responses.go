package gateway

import (
	"encoding/json"
	"errors"
	"fmt"

	"omega/internal/strictjson"
)

// responses is the part of OpenAI's responses request that passes. The state
// that this interface keeps by default is switched off by name.
type responses struct {
	Model             string          `json:"model"`
	Input             json.RawMessage `json:"input"`
	Instructions      string          `json:"instructions,omitempty"`
	MaxOutputTokens   *int            `json:"max_output_tokens,omitempty"`
	Temperature       *float64        `json:"temperature,omitempty"`
	TopP              *float64        `json:"top_p,omitempty"`
	Tools             []tool          `json:"tools,omitempty"`
	ToolChoice        json.RawMessage `json:"tool_choice,omitempty"`
	ParallelToolCalls *bool           `json:"parallel_tool_calls,omitempty"`
	Text              json.RawMessage `json:"text,omitempty"`
	Reasoning         *reasoning      `json:"reasoning,omitempty"`
	Include           []string        `json:"include,omitempty"`
	Truncation        string          `json:"truncation,omitempty"`
	Stream            bool            `json:"stream,omitempty"`
	Store             *bool           `json:"store,omitempty"`
	Background        *bool           `json:"background,omitempty"`
	Previous          string          `json:"previous_response_id,omitempty"`

	extras extras
	items  int
}

type reasoning struct {
	Effort  string `json:"effort,omitempty"`
	Summary string `json:"summary,omitempty"`
}

// item is one of the input. What is not here (files, references to stored
// items, calls of the provider's own tools) is refused by name.
type item struct {
	Type      string          `json:"type,omitempty"`
	Role      string          `json:"role,omitempty"`
	Content   json.RawMessage `json:"content,omitempty"`
	ID        string          `json:"id,omitempty"`
	Status    string          `json:"status,omitempty"`
	CallID    string          `json:"call_id,omitempty"`
	Name      string          `json:"name,omitempty"`
	Arguments string          `json:"arguments,omitempty"`
	Output    json.RawMessage `json:"output,omitempty"`
	Summary   json.RawMessage `json:"summary,omitempty"`
	Encrypted string          `json:"encrypted_content,omitempty"`
}

type itemPart struct {
	Type        string          `json:"type"`
	Text        string          `json:"text,omitempty"`
	Refusal     string          `json:"refusal,omitempty"`
	ImageURL    string          `json:"image_url,omitempty"`
	Detail      string          `json:"detail,omitempty"`
	Annotations json.RawMessage `json:"annotations,omitempty"`
	Logprobs    json.RawMessage `json:"logprobs,omitempty"`
}

func parseResponses(b []byte) (*responses, error) {
	limits := strictjson.Limits{MaxBytes: maxChat, MaxValues: maxChatValues}
	var c responses
	if err := strictjson.Decode(b, &c, limits); err != nil {
		return nil, fmt.Errorf("request: %w; only the plain fields of responses pass", err)
	}
	if c.Model == "" || len(c.Input) == 0 {
		return nil, errors.New("request names no model or has no input")
	}
	c.extras = extras{}
	c.extras.keeps("store", c.Store)
	c.extras.keeps("background", c.Background)
	if c.Previous != "" {
		c.extras["previous_response"] = true
	}
	if c.Store == nil || !*c.Store {
		no := false // the provider stores by default
		c.Store = &no
	}
	c.Background = kept(c.Background)
	for _, name := range c.Include {
		if name != "reasoning.encrypted_content" {
			return nil, fmt.Errorf("include of %q does not pass", clip(name, 80))
		}
	}
	for i := range c.Tools {
		if err := c.Tools[i].check(c.extras, false); err != nil {
			return nil, err
		}
	}
	return &c, c.readInput(limits)
}

// readInput reads the items and writes them anew.
func (c *responses) readInput(limits strictjson.Limits) error {
	if c.Input[0] == '"' {
		c.items = 1
		return nil
	}
	var items []item
	if err := strictjson.Decode(c.Input, &items, limits); err != nil {
		return fmt.Errorf("input: %w", err)
	}
	for i := range items {
		if err := items[i].check(c.extras, limits); err != nil {
			return fmt.Errorf("input %d: %w", i, err)
		}
	}
	var err error
	c.items = len(items)
	c.Input, err = strictjson.Canonical(items)
	return err
}

func (m *item) check(more extras, limits strictjson.Limits) error {
	switch m.Type {
	case "", "message", "function_call", "function_call_output", "reasoning":
	default:
		return fmt.Errorf("an item of type %q does not pass", clip(m.Type, 40))
	}
	for _, content := range []*json.RawMessage{&m.Content, &m.Output} {
		if len(*content) == 0 || (*content)[0] == '"' || string(*content) == "null" {
			continue
		}
		var parts []itemPart
		if err := strictjson.Decode(*content, &parts, limits); err != nil {
			return err
		}
		for _, p := range parts {
			if err := p.check(more); err != nil {
				return err
			}
		}
		anew, err := strictjson.Canonical(parts)
		if err != nil {
			return err
		}
		*content = anew
	}
	return nil
}

func (p itemPart) check(more extras) error {
	switch p.Type {
	case "input_text", "output_text", "refusal", "summary_text", "reasoning_text":
		if p.ImageURL != "" {
			return errors.New("text with an image")
		}
		return nil
	case "input_image":
		return more.image(p.ImageURL)
	}
	return fmt.Errorf("content of type %q does not pass", clip(p.Type, 40))
}

func (c *responses) target() (string, bool) { return c.Model, c.Stream }

func (c *responses) beyond() extras { return c.extras }

func (c *responses) limit(most int) error {
	if c.MaxOutputTokens == nil {
		c.MaxOutputTokens = &most
	}
	if n := *c.MaxOutputTokens; n < 1 || n > most {
		return fmt.Errorf("%d tokens asked for; between 1 and %d are permitted", n, most)
	}
	return nil
}

func (c *responses) args(text []byte) (json.RawMessage, error) {
	return promptArgs(text, map[string]any{
		"max_tokens": *c.MaxOutputTokens, "messages": c.items, "stream": c.Stream, "tools": toolNames(c.Tools),
	})
}

// embeddings is OpenAI's request for embeddings of texts or tokens.
type embeddings struct {
	Model      string          `json:"model"`
	Input      json.RawMessage `json:"input"`
	Dimensions *int            `json:"dimensions,omitempty"`
	Encoding   string          `json:"encoding_format,omitempty"`

	inputs int
}

func parseEmbeddings(b []byte) (*embeddings, error) {
	var e embeddings
	limits := strictjson.Limits{MaxBytes: maxChat, MaxValues: maxChatValues}
	if err := strictjson.Decode(b, &e, limits); err != nil {
		return nil, fmt.Errorf("request: %w; only the plain fields of embeddings pass", err)
	}
	if e.Model == "" || len(e.Input) == 0 {
		return nil, errors.New("request names no model or has no input")
	}
	var texts []string
	var tokens []int
	var lists [][]int
	switch {
	case e.Input[0] == '"':
		e.inputs = 1
	case strictjson.Decode(e.Input, &texts, limits) == nil:
		e.inputs = len(texts)
	case strictjson.Decode(e.Input, &tokens, limits) == nil:
		e.inputs = 1
	case strictjson.Decode(e.Input, &lists, limits) == nil:
		e.inputs = len(lists)
	default:
		return nil, errors.New("input is neither texts nor tokens")
	}
	return &e, nil
}

func (e *embeddings) target() (string, bool) { return e.Model, false }

func (e *embeddings) beyond() extras { return nil }

func (e *embeddings) limit(int) error { return nil } // an embedding has no tokens of an answer

func (e *embeddings) args(text []byte) (json.RawMessage, error) {
	return promptArgs(text, map[string]any{"inputs": e.inputs})
}
