package gateway_test

import (
	"strings"
	"testing"
)

func TestResponsesAndEmbeddingsPass(t *testing.T) {
	w := newWorld(t)
	w.llm.reply = `{"id":"r","object":"response","output":[],"usage":{"input_tokens":3,"output_tokens":4,"total_tokens":7}}`
	r := w.do("POST", "/v1/responses", `{"model":"scripted","input":[{"role":"user","content":[{"type":"input_text","text":"hi"}]},
	  {"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"7"}],
	  "tools":[{"type":"function","name":"f","parameters":{},"strict":true}]}`)
	if r.status != 200 || !strings.Contains(r.body, `"object":"response"`) {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if sent := w.llm.bodies[0]; !strings.Contains(sent, `"store":false`) || !strings.Contains(sent, `"max_output_tokens":512`) || !strings.Contains(sent, `"name":"f"`) {
		t.Errorf("sent %s", sent)
	}
	w.llm.reply = `{"object":"list","data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":3,"total_tokens":3}}`
	if r := w.do("POST", "/v1/embeddings", `{"model":"scripted","input":["a","b"]}`); r.status != 200 || !strings.Contains(r.body, "embedding") {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if in := string(w.log.entries[2].Input); !strings.Contains(in, `"inputs":2`) || strings.Contains(in, `"a"`) {
		t.Errorf("decided %s", in)
	}
	w.wantLog("intent permit respond", "outcome ok", "intent permit embed", "outcome ok")
}

func TestResponsesStreamEndsWithItsEntry(t *testing.T) {
	w := newWorld(t)
	w.llm.stream = []string{
		`{"type":"response.output_text.delta","delta":"hi"}`,
		`{"type":"response.completed","response":{"usage":{"input_tokens":3,"output_tokens":4}}}`,
	}
	r := w.do("POST", "/v1/responses", `{"model":"scripted","input":"x","stream":true}`)
	want := "event: response.output_text.delta\ndata: {\"delta\":\"hi\",\"type\":\"response.output_text.delta\"}\n\nevent: response.completed\n"
	if r.status != 200 || !strings.HasPrefix(r.body, want) {
		t.Errorf("%d %q", r.status, r.body)
	}
	w.wantLog("intent permit respond", "outcome ok")
}

func TestResponsesRefuseWhatActsOutsideOfTheirSight(t *testing.T) {
	with := func(extra string) string { return `{"model":"scripted","input":"x"` + extra + `}` }
	input := func(item string) string { return `{"model":"scripted","input":[` + item + `]}` }
	for body, want := range map[string]string{
		with(`,"store":true`):                                                                  "itself (store)",
		with(`,"background":true`):                                                             "itself (background)",
		with(`,"previous_response_id":"resp_1"`):                                               "itself (previous_response)",
		with(`,"conversation":"c"`):                                                            "unknown field",
		with(`,"tools":[{"type":"web_search"}]`):                                               "itself (tools)",
		with(`,"tools":[{"type":"mcp","server_url":"https://evil/?q"}]`):                       "itself (tools, urls)",
		with(`,"tools":[{"type":"function","name":"f","x":1}]`):                                "unknown field",
		with(`,"include":["file_search_call.results"]`):                                        "does not pass",
		input(`{"type":"item_reference","id":"x"}`):                                            "does not pass",
		input(`{"role":"user","content":[{"type":"input_file","file_id":"x"}]}`):               "unknown field",
		input(`{"role":"user","content":[{"type":"input_image","image_url":"https://evil"}]}`): "itself (urls)",
		input(`{"role":"user","content":[{"type":"input_image","image_url":"file:///x"}]}`):    "neither inside",
		with(`,"max_output_tokens":513`):                                                       "between 1 and 512",
	} {
		w := newWorld(t)
		if r := w.do("POST", "/v1/responses", body); r.status != 403 || !strings.Contains(r.body, want) || len(w.llm.bodies) > 0 {
			t.Errorf("%s: %d %s, want %q", body, r.status, r.body, want)
		}
	}
}

func TestTheUsageOfAStreamIsAskedForAndKeptFromWhoDidNotAsk(t *testing.T) {
	w := newWorld(t)
	w.llm.stream = []string{`{"choices":[{"delta":{"content":"hi"}}]}`, `{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}`, "[DONE]"}
	r := w.do("POST", chatPath, `{"model":"scripted","stream":true,"messages":[{"role":"user","content":"x"}]}`)
	if !strings.Contains(r.body, "hi") || strings.Contains(r.body, "usage") || !strings.Contains(r.body, "[DONE]") {
		t.Errorf("%s", r.body)
	}
	if !strings.Contains(w.llm.bodies[0], `"include_usage":true`) {
		t.Errorf("sent %s", w.llm.bodies[0])
	}
}

func FuzzPrompts(f *testing.F) {
	f.Add("/v1/responses", `{"model":"scripted","input":"x"}`)
	f.Add("/v1/embeddings", `{"model":"scripted","input":[1,2]}`)
	f.Fuzz(func(t *testing.T, path, body string) {
		if path != "/v1/responses" && path != "/v1/embeddings" {
			return
		}
		w := newWorld(t)
		r := w.do("POST", path, body)
		if len(w.llm.bodies) > 0 && strings.Contains(w.llm.bodies[0], `"store":true`) {
			t.Errorf("%s became %s (%d)", body, w.llm.bodies[0], r.status)
		}
	})
}
