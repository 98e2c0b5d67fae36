package gateway_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"omega/policy/gateway"
)

func TestAnUpstreamThatFailsRestsAndIsTriedAgain(t *testing.T) {
	clock := time.Now()
	w := newWorld(t, func(w *world) {
		w.cfg.Now = func() time.Time { return clock }
		w.cfg.Dial["files.example.com:443"] = "127.0.0.1:1"
	})
	for range 6 {
		if text, _ := w.call("files", "read", `{"path":"/data/public/a"}`); !strings.Contains(text, "did not answer") {
			t.Fatal(text)
		}
	}
	if text, _ := w.call("files", "read", `{"path":"/data/public/a"}`); !strings.Contains(text, "left alone") {
		t.Errorf("after failures in a row: %q", text)
	}
	w.cfg.Dial["files.example.com:443"] = w.upstream.Listener.Addr().String()
	if text, _ := w.call("files", "read", `{"path":"/data/public/a"}`); !strings.Contains(text, "left alone") {
		t.Errorf("while it rests: %q", text)
	}
	clock = clock.Add(11 * time.Second)
	if text, isError := w.call("files", "read", `{"path":"/data/public/a"}`); isError {
		t.Errorf("after the rest: %q", text)
	}
}

func TestASlowUpstreamStallsNobodyElse(t *testing.T) {
	release := make(chan struct{})
	w := newWorld(t)
	w.files.before = func(rw http.ResponseWriter, r *http.Request, method string) bool {
		if method == "tools/call" && r.Host == "files.example.com" {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		return false
	}
	defer close(release)
	other := w.agent
	other.Instance = "reporter-2"
	second := *w
	second.client = w.connect(other)
	second.do("POST", "/mcp/files", init2025)
	w.do("POST", "/mcp/files", init2025)
	for range 20 { // more than one agent's streams
		go func() {
			resp, err := w.client.Post("http://127.0.0.1:3128/mcp/files", "application/json",
				strings.NewReader(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"read","arguments":{"path":"/data/public/a"}}}`))
			if err == nil {
				_ = resp.Body.Close()
			}
		}()
	}
	for len(w.files.called("tools/call")) < 16 {
		time.Sleep(5 * time.Millisecond)
	}
	begin := time.Now()
	if r := second.do("POST", chatPath, `{"model":"scripted","messages":[{"role":"user","content":"x"}]}`); r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("another agent waited %v", took)
	}
}

func TestAListIsAskedForOnceMoreAndACallIsNot(t *testing.T) {
	for method, want := range map[string]int{"tools/list": 2, "tools/call": 1} {
		w := newWorld(t)
		w.call("files", "region", `{"region":"x"}`) // opens the session and fetches the list
		before := len(w.files.called(method))
		cut := true
		w.files.before = func(rw http.ResponseWriter, r *http.Request, m string) bool {
			if m == method && cut {
				cut = false
				panic(http.ErrAbortHandler)
			}
			return false
		}
		body := `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
		if method == "tools/call" {
			body = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"region","arguments":{"region":"y"}}}`
		}
		w.do("POST", "/mcp/files", body)
		if n := len(w.files.called(method)) - before; n != want {
			t.Errorf("%s reached the server %d times, want %d", method, n, want)
		}
	}
}

func TestMetricsAndTracesTellWhatHappenedWithoutContents(t *testing.T) {
	w := newWorld(t)
	w.call("files", "read", `{"path":"/data/public/SECRET"}`)
	w.call("files", "read", `{"path":"/etc/SECRET"}`)
	w.do("POST", chatPath, `{"model":"scripted","messages":[{"role":"user","content":"SECRET"}]}`)
	var b bytes.Buffer
	if err := w.gw.Metrics(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`omega_gateway_calls_total{agent="reporter",action="mcp.tools/call",result="permit"} 1`,
		`omega_gateway_calls_total{agent="reporter",action="mcp.tools/call",result="deny"} 1`,
		`omega_gateway_calls_total{agent="reporter",action="mcp.tools/call",result="ok"} 1`,
		`omega_gateway_call_seconds_count{action="llm.chat"} 1`,
		`omega_gateway_upstream_resting{upstream="server files"} 0`,
	} {
		if !strings.Contains(b.String(), want+"\n") {
			t.Errorf("no %s in\n%s", want, b.String())
		}
	}
	traces, err := w.gw.Traces()
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		ResourceSpans []struct {
			ScopeSpans []struct {
				Spans []struct{ TraceID, SpanID, Name string }
			}
		}
	}
	if err := json.Unmarshal(traces, &m); err != nil {
		t.Fatal(err)
	}
	spans := m.ResourceSpans[0].ScopeSpans[0].Spans
	if len(spans) != 2 || len(spans[0].TraceID) != 32 || len(spans[0].SpanID) != 16 || spans[1].Name != "llm.chat" {
		t.Errorf("spans %+v", spans)
	}
	if strings.Contains(b.String()+string(traces), "SECRET") || strings.Contains(b.String()+string(traces), "reporter-1") {
		t.Error("contents or instances are shown")
	}
}

func TestLabelsStayWithTheInstanceAcrossLinks(t *testing.T) {
	w := attacked(t)
	w.wantPermitted("vault", "get", `{}`)
	again := *w
	again.client = w.connect(w.agent)
	again.wantDenied("mail", "send", `{"to":"bob@corp.example","body":"the secret"}`, "denied by policy")
	fresh := w.agent
	fresh.Instance = "reporter-2"
	var other gateway.Agent = fresh
	again.client = w.connect(other)
	again.wantPermitted("mail", "send", `{"to":"bob@corp.example","body":"hello"}`)
}
