package gateway_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"omega/policy/provenance"
)

const chatPath = "/v1/chat/completions"

func TestChatIsDecidedEnteredAndSentAnew(t *testing.T) {
	w := newWorld(t)
	r := w.do("POST", chatPath, `{ "messages":[{"content":[{"text":"PROMPT <b>","type":"text"}],"role":"user"}], "model":"scripted", "store":false,
		"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}] }`, "Authorization", "Bearer SECRET", "X-Other", "SECRET")
	if r.status != 200 || !strings.Contains(r.body, `"content":"hi"`) {
		t.Fatalf("%d %s", r.status, r.body)
	}
	want := `{"max_tokens":512,"messages":[{"content":[{"text":"PROMPT <b>","type":"text"}],"role":"user"}],"model":"scripted","tools":[{"function":{"name":"f","parameters":{"type":"object"}},"type":"function"}]}`
	if got := w.llm.bodies; len(got) != 1 || got[0] != want {
		t.Errorf("upstream got %q", got)
	}
	w.wantLog("intent permit think", "outcome ok")
	in := string(w.log.entries[0].Input)
	for _, part := range []string{`"max_tokens":512`, `"tools":["f"]`, `"request_sha256":"`} {
		if !strings.Contains(in, part) {
			t.Errorf("input without %s: %s", part, in)
		}
	}
	if strings.Contains(in, "PROMPT") {
		t.Errorf("the prompt is in the log: %s", in)
	}
}

func TestChatStreams(t *testing.T) {
	chunk := `{"choices": [{"delta":{"content":"h"},"index":0}],"object":"chat.completion.chunk"}`
	ask := `{"model":"scripted","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"x"}]}`
	w := newWorld(t, func(w *world) { w.llm.stream = []string{chunk, chunk, "[DONE]"} })
	r := w.do("POST", chatPath, ask)
	event := `data: {"choices":[{"delta":{"content":"h"},"index":0}],"object":"chat.completion.chunk"}` + "\n\n"
	if want := event + event + "data: [DONE]\n\n"; r.status != 200 || r.body != want || r.header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("%d %q, want %q", r.status, r.body, want)
	}
	w.wantLog("intent permit think", "outcome ok")

	for name, events := range map[string][]string{
		"cut":            {chunk},
		"not json":       {chunk, "<html>", "[DONE]"},
		"duplicate keys": {`{"a":1,"a":2}`, "[DONE]"},
	} {
		w := newWorld(t, func(w *world) { w.llm.stream = events })
		if text, err := w.read(chatPath, ask); err == nil || strings.Contains(text, "[DONE]") {
			t.Errorf("%s: stream ended well: %q", name, text)
		}
		w.wantLog("intent permit think", "outcome error")
	}
}

func TestAnAgentThatDoesNotReadCannotHoldBackTheOutcome(t *testing.T) {
	chunk := `{"choices":[{"delta":{"content":"` + strings.Repeat("h", 64<<10) + `"}}]}`
	w := newWorld(t, func(w *world) {
		w.llm.stream = append(slices.Repeat([]string{chunk}, 32), "[DONE]")
		w.cfg.Timeout = time.Second
		w.buffer = 64 << 10
	})
	ask := `{"model":"scripted","stream":true,"messages":[{"role":"user","content":"x"}]}`
	resp, err := w.client.Post("http://127.0.0.1:3128"+chatPath, "application/json", strings.NewReader(ask))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for end := time.Now().Add(10 * time.Second); len(w.log.kinds()) < 2 && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	w.wantLog("intent permit think", "outcome error")
}

// read posts and returns what came before the stream broke.
func (w *world) read(path, body string) (string, error) {
	resp, err := w.client.Post("http://127.0.0.1:3128"+path, "application/json", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func TestChatRefusesWhatActsOutsideOfItsSight(t *testing.T) {
	with := func(extra string) string {
		return `{"model":"scripted","messages":[{"role":"user","content":"x"}]` + extra + `}`
	}
	message := func(m string) string { return `{"model":"scripted","messages":[` + m + `]}` }
	tests := []struct{ name, body, want string }{
		{"stored", with(`,"store":true`), "itself (store)"},
		{"background", with(`,"background":true`), "itself (background)"},
		{"web search", with(`,"web_search_options":{}`), "unknown field"},
		{"metadata", with(`,"metadata":{"a":"b"}`), "unknown field"},
		{"provider's tool", with(`,"tools":[{"type":"web_search","function":{"name":"x"}}]`), "itself (tools)"},
		{"mcp tool of the provider", with(`,"tools":[{"type":"mcp","server_url":"https://evil"}]`), "itself (tools, urls)"},
		{"remote image", message(`{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://evil/?q=SECRET"}}]}`), "itself (urls)"},
		{"remote image by case", message(`{"role":"user","content":[{"type":"image_url","image_url":{"url":"HTTP://evil"}}]}`), "inside of the request"},
		{"file", message(`{"role":"user","content":[{"type":"file","file":{"file_id":"x"}}]}`), "unknown field"},
		{"audio", message(`{"role":"user","content":[{"type":"input_audio"}]}`), "does not pass"},
		{"content as object", message(`{"role":"user","content":{"type":"text"}}`), "content"},
		{"unknown role", message(`{"role":"root","content":"x"}`), "role"},
		{"too many tokens", with(`,"max_tokens":513`), "between 1 and 512"},
		{"too many completion tokens", with(`,"max_completion_tokens":100000`), "between 1 and 512"},
		{"negative tokens", with(`,"max_tokens":-1`), "between 1 and 512"},
		{"both limits", with(`,"max_tokens":5,"max_completion_tokens":5`), "both given"},
		{"many answers", with(`,"n":50`), "one answer"},
		{"model of no permit", `{"model":"other","messages":[{"role":"user","content":"x"}]}`, "this agent has: scripted"},
		{"no model", `{"messages":[{"role":"user","content":"x"}]}`, "names no model"},
		{"duplicate key", with(`,"model":"other"`), "duplicate key"},
		{"other case", with(`,"Model":"other"`), "unknown field"},
		{"very many values", with(`,"stop":[` + strings.Repeat("{},", 33<<10) + `0]`), "too many values"},
		{"trailing bytes", with("") + "{}", "not one complete value"},
		{"batch", "[" + with("") + "]", "not an object"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			r := w.do("POST", chatPath, tc.body)
			var e struct {
				Error struct{ Message, Type string }
			}
			if err := json.Unmarshal([]byte(r.body), &e); err != nil || r.status != 403 || !strings.Contains(e.Error.Message, tc.want) {
				t.Errorf("%d %s, want %q", r.status, r.body, tc.want)
			}
			if strings.HasPrefix(tc.want, "itself") {
				w.wantLog("intent deny")
			} else {
				w.wantLog("refusal")
			}
			if len(w.llm.bodies) != 0 {
				t.Errorf("upstream got %q", w.llm.bodies)
			}
		})
	}
}

func TestChatIsDeniedByPolicyInWords(t *testing.T) {
	w := newWorld(t)
	ask := `{"model":"scripted","messages":[{"role":"user","content":"x"}]}`
	for range 3 {
		if r := w.do("POST", chatPath, ask); r.status != 200 {
			t.Fatalf("%d %s", r.status, r.body)
		}
	}
	if r := w.do("POST", chatPath, ask); r.status != 403 || !strings.Contains(r.body, "limit of 3 calls is used up") {
		t.Errorf("%d %s", r.status, r.body)
	}
	if len(w.llm.bodies) != 3 {
		t.Errorf("%d requests went out", len(w.llm.bodies))
	}
}

func TestModelMustBeInTheBundleToo(t *testing.T) {
	w := newWorld(t, func(w *world) { w.agent.Models = nil })
	if r := w.do("POST", chatPath, `{"model":"scripted","messages":[{"role":"user","content":"x"}]}`); r.status != 403 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r := w.do("GET", "/v1/models", ""); r.body != `{"data":[],"object":"list"}` {
		t.Errorf("%s", r.body)
	}
}

func TestModelsAreThosePermitted(t *testing.T) {
	w := newWorld(t)
	want := `{"data":[{"created":0,"id":"scripted","object":"model","owned_by":"omega"}],"object":"list"}`
	if r := w.do("GET", "/v1/models", ""); r.status != 200 || r.body != want {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r := w.do("DELETE", "/v1/models", ""); r.status != 403 {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestModelFaultsBecomeErrors(t *testing.T) {
	ask := `{"model":"scripted","messages":[{"role":"user","content":"x"}]}`
	for name, reply := range map[string]string{
		"not json": "<html>", "duplicate keys": `{"a":1,"a":2}`, "not an object": `[]`,
		"endless": `{"a":"` + strings.Repeat("x", 5<<20) + `"}`,
	} {
		w := newWorld(t, func(w *world) { w.llm.reply = reply })
		if r := w.do("POST", chatPath, ask); r.status != http.StatusBadGateway || !strings.Contains(r.body, "did not answer") {
			t.Errorf("%s: %d %.200s", name, r.status, r.body)
		}
		w.wantLog("intent permit think", "outcome error")
	}
}

func TestChatWithoutItsEntryDoesNotHappen(t *testing.T) {
	for _, kind := range []string{provenance.KindIntent, provenance.KindOutcome} {
		w := newWorld(t, func(w *world) {
			w.log.fail = func(e provenance.Entry) error {
				if e.Kind == kind {
					return errors.New("disk full")
				}
				return nil
			}
		})
		r := w.do("POST", chatPath, `{"model":"scripted","messages":[{"role":"user","content":"x"}]}`)
		if r.status != http.StatusServiceUnavailable || strings.Contains(r.body, "content") ||
			strings.Contains(r.body, "nothing was done") != (kind == provenance.KindIntent) {
			t.Errorf("%s: %d %s", kind, r.status, r.body)
		}
		if kind == provenance.KindIntent && len(w.llm.bodies) > 0 {
			t.Errorf("upstream got %q", w.llm.bodies)
		}
	}
}
