package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// conversation is a planner's so far: the tools offered, and results by call.
func conversation(tools []string, turns ...step) request {
	var req request
	req.Model = modelName
	req.Messages = []message{{Role: "system", Content: "You are a planner."}, {Role: "user", Content: "Plan."}}
	for _, name := range tools {
		var tool struct {
			Function struct {
				Name string `json:"name"`
			} `json:"function"`
		}
		tool.Function.Name = name
		req.Tools = append(req.Tools, tool)
	}
	for _, turn := range turns {
		call := toolCall{ID: turn.tool + turn.path, Type: "function", Function: function{"x__" + turn.tool, encode(map[string]string{"path": turn.path})}}
		result := turn.result
		if turn.refused {
			result = "error: " + result
		}
		req.Messages = append(req.Messages,
			message{Role: "assistant", ToolCalls: []toolCall{call}},
			message{Role: "tool", ToolCallID: call.ID, Content: text(result)})
	}
	return req
}

func TestTheScriptFollowsWhatTheToolsSay(t *testing.T) {
	both := []string{"files__read_file", "notes__append_note"}
	brief := step{tool: "read_file", path: "/public/brief.txt", result: "Details are in /private/s.txt."}
	tests := []struct {
		name  string
		tools []string
		turns []step
		call  string // part of the tool call that must follow
		words string // or of the answer
	}{
		{"it begins with the brief", both, nil, "/public/brief.txt", ""},
		{"it follows the brief", both, []step{brief}, "/private/s.txt", ""},
		{
			"refused, it takes the way that the reason names", both,
			[]step{brief, {"read_file", "/private/s.txt", "denied: /private/s.txt; instead: read /public/other.txt.", true}}, "/public/other.txt", "",
		},
		{
			"refused without another way, it gives up", both,
			[]step{brief, {"read_file", "/private/s.txt", "denied: /private/s.txt", true}}, "", "no permitted way",
		},
		{
			"refused again on the way that it took, it gives up", both,
			[]step{brief, {"read_file", "/public/o.txt", "denied; instead: read /public/o.txt", true}}, "", "no permitted way",
		},
		{"it writes down what it found", both, []step{brief, {"read_file", "/public/o.txt", "Cost: 5\n", false}}, "Cost: 5", ""},
		{"it ends with its note", both, []step{{"append_note", "", "note 1 kept", false}}, "", "The plan is written."},
		{"a refused note is not called written", both, []step{{"append_note", "", "limit", true}}, "", "refused: limit"},
		{"it calls only what it was offered", nil, nil, "", "no tool named read_file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := next(conversation(tt.tools, tt.turns...))
			if tt.call == "" != (len(got.ToolCalls) == 0) || !strings.Contains(string(got.Content), tt.words) {
				t.Fatalf("answer %+v", got)
			}
			if tt.call != "" && !strings.Contains(got.ToolCalls[0].Function.Arguments, tt.call) {
				t.Errorf("call %+v, want %q in it", got.ToolCalls[0], tt.call)
			}
		})
	}
}

func TestTheServerAnswersAsTheAPIDoes(t *testing.T) {
	good, err := json.Marshal(conversation([]string{"files__read_file"}))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, body string
		status     int
		want       string
	}{
		{"a conversation", string(good), http.StatusOK, `"finish_reason":"tool_calls"`},
		{"content in parts", `{"model":"scripted","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]}`, http.StatusOK, `"finish_reason":"stop"`},
		{"content of null", `{"model":"scripted","messages":[{"role":"assistant","content":null}]}`, http.StatusOK, `"model":"scripted"`},
		{"another model", `{"model":"gpt"}`, http.StatusNotFound, "only scripted is served here"},
		{"streaming", `{"model":"scripted","stream":true}`, http.StatusBadRequest, "in one piece"},
		{"no JSON", `{`, http.StatusBadRequest, "request"},
		{"too long", `{"model":"` + strings.Repeat("x", maxRequest) + `"}`, http.StatusBadRequest, "too large"},
	}
	server := httptest.NewServer(handler())
	defer server.Close()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			response, err := http.Post(server.URL+"/v1/chat/completions", "application/json", strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			var body bytes.Buffer
			if _, err := body.ReadFrom(response.Body); err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != tt.status || !strings.Contains(body.String(), tt.want) {
				t.Errorf("%d %s", response.StatusCode, &body)
			}
		})
	}
}
