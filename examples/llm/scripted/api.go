package main

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// modelName is the only model there is.
const modelName = "scripted"

// maxRequest bounds a request body in bytes.
const maxRequest = 1 << 20

// The parts of the chat completions API that a script needs.
type (
	request struct {
		Model    string    `json:"model"`
		Messages []message `json:"messages"`
		Tools    []struct {
			Function struct {
				Name string `json:"name"`
			} `json:"function"`
		} `json:"tools"`
		Stream bool `json:"stream"`
	}
	message struct {
		Role       string     `json:"role"`
		Content    text       `json:"content"`
		ToolCalls  []toolCall `json:"tool_calls,omitempty"`
		ToolCallID string     `json:"tool_call_id,omitempty"`
	}
	toolCall struct {
		ID       string   `json:"id"`
		Type     string   `json:"type"`
		Function function `json:"function"`
	}
	function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	}
	choice struct {
		Index        int     `json:"index"`
		Message      message `json:"message"`
		FinishReason string  `json:"finish_reason"`
	}
	usage struct {
		PromptTokens     int `json:"prompt_tokens"`
		CompletionTokens int `json:"completion_tokens"`
		TotalTokens      int `json:"total_tokens"`
	}
	completion struct {
		ID      string   `json:"id"`
		Object  string   `json:"object"`
		Created int64    `json:"created"`
		Model   string   `json:"model"`
		Choices []choice `json:"choices"`
		Usage   usage    `json:"usage"`
	}
)

// text is a message's content, which clients send as a string, as a list of
// text parts, or not at all.
type text string

// UnmarshalJSON accepts each of the three forms.
func (t *text) UnmarshalJSON(b []byte) error {
	var plain *string
	if json.Unmarshal(b, &plain) == nil {
		if plain != nil {
			*t = text(*plain)
		}
		return nil
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if err := json.Unmarshal(b, &parts); err != nil {
		return err
	}
	for _, part := range parts {
		*t += text(part.Text)
	}
	return nil
}

// handler serves the two endpoints of the API that agents use.
func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", chat)
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]any{"object": "list", "data": []any{
			map[string]any{"id": modelName, "object": "model", "owned_by": "scripted"},
		}})
	})
	return mux
}

// chat answers one conversation with the script's next line.
func chat(w http.ResponseWriter, r *http.Request) {
	var req request
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&req); err != nil {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("request: %v", err))
		return
	}
	if req.Model != modelName {
		refuse(w, http.StatusNotFound, fmt.Sprintf("model %q: only %s is served here", req.Model, modelName))
		return
	}
	if req.Stream {
		refuse(w, http.StatusBadRequest, "streaming: the scripted model answers in one piece")
		return
	}
	answer := next(req)
	finish := "stop"
	if len(answer.ToolCalls) > 0 {
		finish = "tool_calls"
	}
	tokens := usage{PromptTokens: len(req.Messages), CompletionTokens: 1, TotalTokens: len(req.Messages) + 1}
	reply(w, completion{
		ID: fmt.Sprintf("scripted-%d", len(req.Messages)), Object: "chat.completion", Model: modelName,
		Choices: []choice{{Message: answer, FinishReason: finish}}, Usage: tokens,
	})
}

func reply(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	// An error here is the client gone: there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(body)
}

func refuse(w http.ResponseWriter, status int, why string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"message": why, "type": "invalid_request_error"}})
}
