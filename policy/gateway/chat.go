package gateway

import (
	"encoding/json"
	"errors"
	"fmt"

	"omega/internal/strictjson"
)

// chat is the part of OpenAI's chat completion request that passes. What is not
// here (stored or background state, tools that the provider runs, web search,
// audio, metadata) is refused by name.
type chat struct {
	Model               string          `json:"model"`
	Messages            []chatMessage   `json:"messages"`
	Stream              bool            `json:"stream,omitempty"`
	StreamOptions       *streamOptions  `json:"stream_options,omitempty"`
	MaxTokens           *int            `json:"max_tokens,omitempty"`
	MaxCompletionTokens *int            `json:"max_completion_tokens,omitempty"`
	Temperature         *float64        `json:"temperature,omitempty"`
	TopP                *float64        `json:"top_p,omitempty"`
	N                   *int            `json:"n,omitempty"`
	Stop                json.RawMessage `json:"stop,omitempty"`
	Seed                *int            `json:"seed,omitempty"`
	PresencePenalty     *float64        `json:"presence_penalty,omitempty"`
	FrequencyPenalty    *float64        `json:"frequency_penalty,omitempty"`
	Tools               []tool          `json:"tools,omitempty"`
	ToolChoice          json.RawMessage `json:"tool_choice,omitempty"`
	ParallelToolCalls   *bool           `json:"parallel_tool_calls,omitempty"`
	ResponseFormat      json.RawMessage `json:"response_format,omitempty"`
	ReasoningEffort     string          `json:"reasoning_effort,omitempty"`
	Store               *bool           `json:"store,omitempty"`
	Background          *bool           `json:"background,omitempty"`

	extras extras
}

type streamOptions struct {
	IncludeUsage *bool `json:"include_usage,omitempty"`
}

type chatMessage struct {
	Role       string          `json:"role"`
	Content    json.RawMessage `json:"content,omitempty"`
	Name       string          `json:"name,omitempty"`
	ToolCalls  []chatToolCall  `json:"tool_calls,omitempty"`
	ToolCallID string          `json:"tool_call_id,omitempty"`
	Refusal    *string         `json:"refusal,omitempty"`
}

type chatToolCall struct {
	ID       string `json:"id"`
	Type     string `json:"type"`
	Index    *int   `json:"index,omitempty"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

// chatPart is one part of a message's content.
type chatPart struct {
	Type     string `json:"type"`
	Text     string `json:"text,omitempty"`
	Refusal  string `json:"refusal,omitempty"`
	ImageURL *struct {
		URL    string `json:"url"`
		Detail string `json:"detail,omitempty"`
	} `json:"image_url,omitempty"`
}

// parseChat reads a request strictly and refuses what would act or keep state
// outside of the gateway's sight.
func parseChat(b []byte) (*chat, error) {
	var c chat
	if err := strictjson.Decode(b, &c, strictjson.Limits{MaxBytes: maxChat, MaxValues: maxChatValues}); err != nil {
		return nil, fmt.Errorf("request: %w; only the plain fields of chat completions pass", err)
	}
	if c.Model == "" || len(c.Messages) == 0 {
		return nil, errors.New("request names no model or has no messages")
	}
	c.extras = extras{}
	c.extras.keeps("store", c.Store)
	c.extras.keeps("background", c.Background)
	c.Store, c.Background = kept(c.Store), kept(c.Background)
	for i := range c.Tools {
		if err := c.Tools[i].check(c.extras, true); err != nil {
			return nil, err
		}
	}
	for i := range c.Messages {
		if err := c.Messages[i].check(c.extras); err != nil {
			return nil, fmt.Errorf("message %d: %w", i, err)
		}
	}
	return &c, nil
}

// target is the model, and whether it streams.
func (c *chat) target() (string, bool) { return c.Model, c.Stream }

func (c *chat) beyond() extras { return c.extras }

// withUsage asks for the usage at the end of a stream, and says whether the
// agent had done so.
func (c *chat) withUsage() bool {
	asked := c.StreamOptions != nil && c.StreamOptions.IncludeUsage != nil && *c.StreamOptions.IncludeUsage
	if yes := true; c.Stream {
		c.StreamOptions = &streamOptions{IncludeUsage: &yes}
	}
	return asked
}

func (m *chatMessage) check(more extras) error {
	switch m.Role {
	case "system", "developer", "user", "assistant", "tool":
	default:
		return fmt.Errorf("role %q", clip(m.Role, 40))
	}
	for _, t := range m.ToolCalls {
		if t.Type != "function" {
			return fmt.Errorf("tool call of type %q", clip(t.Type, 40))
		}
	}
	if len(m.Content) == 0 || m.Content[0] == '"' || string(m.Content) == "null" {
		return nil
	}
	var parts []chatPart
	if err := strictjson.Decode(m.Content, &parts, strictjson.Limits{MaxBytes: maxChat, MaxValues: maxChatValues}); err != nil {
		return fmt.Errorf("content: %w", err)
	}
	for _, p := range parts {
		if err := p.check(more); err != nil {
			return err
		}
	}
	content, err := strictjson.Canonical(parts)
	m.Content = content
	return err
}

func (p chatPart) check(more extras) error {
	switch p.Type {
	case "text", "refusal":
		if p.ImageURL != nil {
			return errors.New("text with an image")
		}
		return nil
	case "image_url":
		if p.ImageURL == nil {
			return errors.New("no image")
		}
		return more.image(p.ImageURL.URL)
	}
	return fmt.Errorf("content of type %q does not pass", clip(p.Type, 40))
}

// limit holds the answer to the policy's tokens; without a wish the policy's
// most is asked for.
func (c *chat) limit(most int) error {
	if c.N != nil && *c.N != 1 {
		return errors.New("n is not 1: one answer a request")
	}
	for _, n := range []*int{c.MaxTokens, c.MaxCompletionTokens} {
		if n != nil && (*n < 1 || *n > most) {
			return fmt.Errorf("%d tokens asked for; between 1 and %d are permitted", *n, most)
		}
	}
	if c.MaxTokens != nil && c.MaxCompletionTokens != nil {
		return errors.New("max_tokens and max_completion_tokens are both given")
	}
	if c.MaxTokens == nil && c.MaxCompletionTokens == nil {
		c.MaxTokens = &most
	}
	return nil
}

// args is what the policy and the log see of a request: its shape and digest.
// The prompt itself stays out of both.
func (c *chat) args(text []byte) (json.RawMessage, error) {
	tokens := c.MaxTokens
	if tokens == nil {
		tokens = c.MaxCompletionTokens
	}
	return promptArgs(text, map[string]any{
		"max_tokens": *tokens, "messages": len(c.Messages), "stream": c.Stream, "tools": toolNames(c.Tools),
	})
}
