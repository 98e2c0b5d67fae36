package gateway_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

type spans []struct {
	TraceID      string `json:"traceId"`
	SpanID       string `json:"spanId"`
	ParentSpanID string `json:"parentSpanId"`
	Name         string `json:"name"`
}

func (w *world) spans() spans {
	w.t.Helper()
	b, err := w.gw.Traces()
	if err != nil {
		w.t.Fatal(err)
	}
	var out struct {
		ResourceSpans []struct{ ScopeSpans []struct{ Spans spans } }
	}
	if err := json.Unmarshal(b, &out); err != nil {
		w.t.Fatal(err)
	}
	return out.ResourceSpans[0].ScopeSpans[0].Spans
}

const (
	ownTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	ownParent = "00f067aa0ba902b7"
)

func TestAnAgentsTraceHoldsItsSpansTogetherUnderAnotherNumber(t *testing.T) {
	w := newWorld(t)
	call := `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"read","arguments":{"path":"/data/public/a"}}}`
	for range 2 {
		w.do("POST", "/mcp/files", call, "Mcp-Protocol-Version", "2025-06-18", "Traceparent", "00-"+ownTrace+"-"+ownParent+"-01", "Tracestate", "mine=SECRETSTATE")
	}
	second := w.agent
	second.Instance = "reporter-2"
	w.client = w.connect(second)
	w.do("POST", "/mcp/files", call, "Mcp-Protocol-Version", "2025-06-18", "Traceparent", "00-"+ownTrace+"-"+ownParent+"-01")
	s := w.spans()
	if len(s) != 3 {
		t.Fatalf("%d spans", len(s))
	}
	if s[0].TraceID != s[1].TraceID || s[0].ParentSpanID != s[1].ParentSpanID || s[0].SpanID == s[1].SpanID || len(s[0].ParentSpanID) != 16 {
		t.Errorf("two calls of one trace: %+v", s[:2])
	}
	if s[0].TraceID == ownTrace || s[0].ParentSpanID == ownParent || s[2].TraceID == s[0].TraceID {
		t.Errorf("a number of the agent's choice, or one trace for two agents: %+v", s)
	}
	for _, seen := range w.files.called("tools/call") {
		if seen.header.Get("Traceparent")+seen.header.Get("Tracestate") != "" {
			t.Errorf("the server saw %v", seen.header)
		}
	}
	b, err := w.gw.Traces()
	var metrics bytes.Buffer
	if err != nil || w.gw.Metrics(&metrics) != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"SECRETSTATE", "/data/public/a", "reporter-1", ownTrace} {
		if strings.Contains(string(b)+metrics.String(), secret) {
			t.Errorf("%s is told to who observes", secret)
		}
	}
}

func TestWhatIsNoTraceIsIgnored(t *testing.T) {
	w := newWorld(t)
	for _, header := range []string{"", "00-xyz-" + ownParent + "-01", "01-" + ownTrace + "-" + ownParent + "-01", "00-" + ownTrace, "00-" + ownTrace + ownTrace + "-" + ownParent + "-01"} {
		w.do("POST", "/mcp/files", `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"read","arguments":{"path":"/data/public/a"}}}`,
			"Mcp-Protocol-Version", "2025-06-18", "Traceparent", header)
	}
	seen := map[string]bool{}
	for _, s := range w.spans() {
		if s.ParentSpanID != "" || seen[s.TraceID] {
			t.Errorf("span %+v", s)
		}
		seen[s.TraceID] = true
	}
}

func TestTracesOfAgentsStayOutOfTheWeb(t *testing.T) {
	var saw http.Header
	site := &webSite{body: func(r *http.Request) string { saw = r.Header.Clone(); return "hello" }}
	w := newWorld(t, withWeb(site))
	r, err := http.NewRequest("GET", "https://api.example.com/v1/a", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"Traceparent": "00-" + ownTrace + "-" + ownParent + "-01", "Tracestate": "a=b", "Baggage": "c=d", "X-Other": "stays"} {
		r.Header.Set(name, value)
	}
	resp, err := w.browser().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if saw.Get("Traceparent")+saw.Get("Tracestate")+saw.Get("Baggage") != "" || saw.Get("X-Other") != "stays" {
		t.Errorf("the site saw %v", saw)
	}
	if s := w.spans(); len(s) != 1 || s[0].ParentSpanID == "" {
		t.Errorf("spans %+v", s)
	}
}
