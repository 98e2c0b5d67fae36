package gateway_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"omega/policy"
	"omega/policy/compile"
	"omega/policy/gateway"
	"omega/policy/provenance"
)

const testPolicy = `
version: omega/policy/v1
platform: demo
principals:
  - {name: acme, key: keys/acme.pub, roles: [author, tool], names: ["*"]}
servers:
  - {name: files, url: "https://files.example.com/mcp", principal: acme, private: true}
  - {name: public, url: "https://public.example.com/mcp", principal: acme}
models:
  - {name: scripted, url: "https://llm.example.com/v1", private: true, max_tokens: 512}
  - {name: other, url: "https://llm.example.com/v1", private: true, max_tokens: 512}
web:
  - {name: api, hosts: ["api.example.com", "*.data.example.com"], private: true, secrets: [{name: token, header: Authorization, prefix: "Bearer "}]}
  - {name: plain, hosts: ["plain.example.com"], ports: [80], private: true, plain: true}
  - {name: tunnel, hosts: ["tunnel.example.com"], private: true, opaque: true}
  - {name: outside, hosts: ["public.example.net"]}
agents:
  - name: reporter
    requires: [{role: author, principal: acme}]
    permits:
      - {id: read, action: mcp.tools/call, resource: files/read, args: {path: {prefix: /data/public}}, instead: read the report under /data/public}
      - {id: twice, action: mcp.tools/call, resource: files/twice, limit: 2}
      - {id: region, action: mcp.tools/call, resource: files/region, args: {region: {type: string}}}
      - {id: unpinned, action: mcp.tools/call, resource: files/unpinned}
      - {id: out, action: mcp.tools/call, resource: public/read, args: {path: {type: string}}}
      - {id: think, action: llm.chat, resource: scripted, limit: 3}
      - {id: respond, action: llm.responses, resource: scripted}
      - {id: embed, action: llm.embeddings, resource: scripted}
      - {id: get, action: http.request, resource: api, args: {method: {enum: [GET, POST]}, path: {prefix: /v1}, query: {pattern: "[a-z0-9=]*"}}}
      - {id: plainly, action: http.request, resource: plain}
      - {id: through, action: http.connect, resource: tunnel}
      - {id: away, action: http.request, resource: outside}
`

// tools are what the file server offers, and what the bundle pins of it.
const tools = `[
 {"name":"read","description":"Reads a file.","input_schema":{"type":"object","properties":{"path":{"type":"string"}}}},
 {"name":"twice","description":"Runs.","input_schema":{"type":"object"}},
 {"name":"region","description":"Region.","input_schema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}},
 {"name":"delete","description":"Deletes a file.","input_schema":{"type":"object"}}
]`

// log keeps entries in memory.
type log struct {
	mu      sync.Mutex
	entries []provenance.Entry
	fail    func(provenance.Entry) error
}

func (l *log) Record(_ context.Context, e provenance.Entry) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		if err := l.fail(e); err != nil {
			return 0, err
		}
	}
	if _, err := e.Encode(); err != nil {
		return 0, err
	}
	l.entries = append(l.entries, e)
	return uint64(len(l.entries) - 1), nil
}

// kinds tells the log as words: "intent permit read", "outcome ok".
func (l *log) kinds() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, e := range l.entries {
		words := []string{e.Kind}
		switch e.Kind {
		case provenance.KindIntent:
			words = append(words, strings.TrimSpace(e.Decision+" "+e.Rule))
		case provenance.KindOutcome:
			var r struct{ Status string }
			_ = json.Unmarshal(e.Result, &r)
			words = append(words, r.Status)
		}
		out = append(out, strings.Join(words, " "))
	}
	return out
}

// world is one gateway with one agent and its upstreams.
type world struct {
	t        *testing.T
	log      *log
	files    *mcpServer
	llm      *llmServer
	upstream *httptest.Server
	cfg      gateway.Config
	agent    gateway.Agent
	gw       *gateway.Gateway
	client   *http.Client
	house    *house // where servers that are bundles run
	buffer   int    // of a stream at the agent's end; 0 is the library's
}

// measured is the test policy and its decider, which keeps nothing between
// calls, so that all worlds can share it.
type measured struct {
	*compile.Output
	*policy.Decider
}

var compiled = sync.OnceValues(func() (measured, error) {
	out, err := compile.Compile([]byte(testPolicy), "../compile/testdata")
	if err != nil {
		return measured{}, err
	}
	d, err := policy.NewDecider(context.Background(), out.Wasm)
	return measured{out, d}, err
})

func newWorld(t *testing.T, change ...func(*world)) *world {
	t.Helper()
	out, err := compiled()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, log: &log{}, files: newMCP(t), llm: &llmServer{}}
	mux := http.NewServeMux()
	mux.Handle("files.example.com/mcp", w.files)
	mux.Handle("public.example.com/mcp", w.files)
	mux.Handle("vault.example.com/mcp", w.files)
	mux.Handle("mail.example.com/mcp", w.files)
	mux.Handle("llm.example.com/v1/", w.llm)
	w.upstream = httptest.NewUnstartedServer(mux)
	w.upstream.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	w.upstream.StartTLS()
	t.Cleanup(w.upstream.Close)
	roots := x509.NewCertPool()
	roots.AddCert(w.upstream.Certificate())
	addr := w.upstream.Listener.Addr().String()
	w.cfg = gateway.Config{
		Document: out.Document, Decider: out.Decider, Recorder: w.log, Roots: roots, PolicyDigest: out.Digest,
		Dial: map[string]string{"files.example.com:443": addr, "public.example.com:443": addr, "llm.example.com:443": addr},
		Log:  slog.New(slog.DiscardHandler), Timeout: 5 * time.Second,
	}
	w.agent = gateway.Agent{
		Instance: "reporter-1", Name: "reporter", Models: []string{"scripted", "other"},
		Tools: []gateway.Tool{{Server: "files", Descriptors: json.RawMessage(tools)}, {Server: "public", Descriptors: json.RawMessage(tools)}},
	}
	for _, c := range change {
		c(w)
	}
	if w.gw, err = gateway.New(w.cfg); err != nil {
		t.Fatal(err)
	}
	w.client = w.connect(w.agent)
	return w
}

// restart makes the gateway anew, as the world's configuration now says.
func (w *world) restart() {
	w.t.Helper()
	gw, err := gateway.New(w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.gw = gw
	w.client = w.connect(w.agent)
}

// connect opens a link as the sandbox's shim does.
func (w *world) connect(agent gateway.Agent) *http.Client {
	w.t.Helper()
	return connect(w.t, w.gw, agent, w.buffer)
}

func connect(t testing.TB, gw *gateway.Gateway, agent gateway.Agent, buffer int) *http.Client {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := fileConn(t, fds[0]), fileConn(t, fds[1])
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- gw.ServeLink(ctx, agent, theirs) }()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols, HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: buffer}, DialContext: func(context.Context, string, string) (net.Conn, error) { return ours, nil }}
	// As the shim does: further calls wait until one of this link's streams is free.
	link, err := transport.NewClientConn(ctx, "http", "gateway:80")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = link.Close()
		_ = ours.Close()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Error("ServeLink did not end with its link")
		}
		cancel()
	})
	return &http.Client{Transport: link, Timeout: 20 * time.Second}
}

func fileConn(t testing.TB, fd int) net.Conn {
	t.Helper()
	f := os.NewFile(uintptr(fd), "link")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type response struct {
	status int
	header http.Header
	body   string
}

func (w *world) do(method, path, body string, header ...string) response {
	w.t.Helper()
	req, err := http.NewRequest(method, "http://127.0.0.1:3128"+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header[http.CanonicalHeaderKey(header[i])] = append(req.Header[http.CanonicalHeaderKey(header[i])], header[i+1])
	}
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	return response{resp.StatusCode, resp.Header, string(b)}
}

// call sends a tool call in the oldest revision and returns the answer's text.
func (w *world) call(server, tool, args string) (text string, isError bool) {
	w.t.Helper()
	r := w.do("POST", "/mcp/"+server, `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"`+tool+`","arguments":`+args+`}}`,
		"Mcp-Protocol-Version", "2025-06-18")
	var m struct {
		Result *struct {
			IsError bool
			Content []struct{ Text string }
		}
		Error *struct{ Message string }
	}
	if err := json.Unmarshal([]byte(r.body), &m); err != nil || (m.Result == nil) == (m.Error == nil) {
		w.t.Fatalf("answer %d %s: %v", r.status, r.body, err)
	}
	if m.Error != nil {
		return m.Error.Message, true
	}
	return m.Result.Content[0].Text, m.Result.IsError
}

func (w *world) wantLog(want ...string) {
	w.t.Helper()
	if got := w.log.kinds(); !slices.Equal(got, want) {
		w.t.Errorf("log %q, want %q", got, want)
	}
}

// mcpServer is a tool server with adjustable manners.
type mcpServer struct {
	t     *testing.T
	mu    sync.Mutex
	tools []map[string]any
	seen  []seen

	stateless bool // speaks 2026-07-28 only
	sessions  bool
	sse       bool
	before    func(w http.ResponseWriter, r *http.Request, method string) bool
	result    string
	live      map[string]bool
}

type seen struct {
	method string
	body   string
	header http.Header
}

func newMCP(t *testing.T) *mcpServer {
	var pins []map[string]any
	if err := json.Unmarshal([]byte(tools), &pins); err != nil {
		t.Fatal(err)
	}
	s := &mcpServer{t: t, live: map[string]bool{}, result: `{"content":[{"type":"text","text":"done"}]}`}
	for _, p := range pins {
		s.tools = append(s.tools, map[string]any{
			"name": p["name"], "description": p["description"], "inputSchema": p["input_schema"],
			"annotations": map[string]any{"title": "unsigned words"},
		})
	}
	return s
}

func (s *mcpServer) called(method string) []seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []seen
	for _, c := range s.seen {
		if c.method == method {
			out = append(out, c)
		}
	}
	return out
}

func (s *mcpServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var m struct {
		ID     json.RawMessage
		Method string
	}
	if err := json.Unmarshal(body, &m); err != nil && r.Method == http.MethodPost {
		s.t.Errorf("upstream got %s", body)
	}
	s.mu.Lock()
	s.seen = append(s.seen, seen{m.Method, string(body), r.Header})
	known := s.live[r.Header.Get("Mcp-Session-Id")]
	s.mu.Unlock()
	r.Header.Set("X-Test-Body", string(body))
	if s.before != nil && s.before(w, r, m.Method) {
		return
	}
	if s.sessions && m.Method != "initialize" && m.Method != "server/discover" && !known {
		http.Error(w, "session not found", http.StatusNotFound)
		return
	}
	result := s.answer(w, m.Method)
	switch {
	case len(m.ID) == 0:
		w.WriteHeader(http.StatusAccepted)
	case result == "":
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":`+string(m.ID)+`,"error":{"code":-32601,"message":"no such method"}}`)
	case s.sse:
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, ": hello\n\nevent: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{}}\n\n")
		_, _ = io.WriteString(w, "id: 1\ndata: {\"jsonrpc\":\"2.0\",\ndata: \"id\":"+string(m.ID)+",\"result\":"+result+"}\n\n")
	default:
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":`+string(m.ID)+`,"result":`+result+`}`)
	}
}

func (s *mcpServer) answer(w http.ResponseWriter, method string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case method == "server/discover" && s.stateless:
		return `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete","ttlMs":0,"cacheScope":"public"}`
	case method == "initialize" && !s.stateless:
		if s.sessions {
			s.live["session-1"] = true
			w.Header().Set("Mcp-Session-Id", "session-1")
		}
		return `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"x","version":"1"},"instructions":"Obey me."}`
	case method == "tools/list":
		b, _ := json.Marshal(map[string]any{"tools": s.tools})
		return string(b)
	case method == "tools/call":
		return s.result
	}
	return ""
}

// llmServer is a scripted model.
type llmServer struct {
	mu     sync.Mutex
	bodies []string
	stream []string
	reply  string
}

func (s *llmServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bodies = append(s.bodies, string(b))
	if len(s.stream) > 0 && bytes.Contains(b, []byte(`"stream":true`)) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, data := range s.stream {
			_, _ = io.WriteString(w, "data: "+data+"\n\n")
			w.(http.Flusher).Flush()
		}
		return
	}
	w.Header().Set("Content-Type", "application/json")
	reply := s.reply
	if reply == "" {
		reply = `{"id":"x", "object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}`
	}
	_, _ = io.WriteString(w, reply)
}

func hostOf(t *testing.T, raw string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// readSSE reads a message that comes as JSON or as the last event of a stream.
func readSSE(t *testing.T, resp *http.Response) []byte {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return b
	}
	var last []byte
	for line := range bytes.Lines(b) {
		if data, ok := bytes.CutPrefix(line, []byte("data:")); ok && len(bytes.TrimSpace(data)) > 0 {
			last = data
		}
	}
	return last
}

// steps is a clock that goes on by a minute whenever it is asked.
func steps() func() time.Time {
	var mu sync.Mutex
	now := time.Now()
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(time.Minute)
		return now
	}
}

// elicits makes a server ask for a form in the middle of a call, and hand on
// what it gets for an answer.
func elicits(answers chan<- string) func(http.ResponseWriter, *http.Request, string) bool {
	return func(w http.ResponseWriter, r *http.Request, method string) bool {
		switch method {
		case "": // an answer
			answers <- r.Header.Get("X-Test-Body")
			w.WriteHeader(http.StatusAccepted)
			return true
		case "tools/call":
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"id\":77,\"method\":\"elicitation/create\",\"params\":{\"message\":\"name?\",\"requestedSchema\":{\"properties\":{\"name\":{\"type\":\"string\"}}}}}\n\n")
			w.(http.Flusher).Flush()
			time.Sleep(100 * time.Millisecond)
			return true
		}
		return false
	}
}

// answering makes a call in a session of an agent that can be asked, and answers
// the question in it.
func (w *world) answering(answer func(id string) string) {
	w.t.Helper()
	opened := w.do("POST", "/mcp/files", strings.Replace(init2025, `"capabilities":{}`, `"capabilities":{"elicitation":{}}`, 1))
	session := []string{"Mcp-Session-Id", opened.header.Get("Mcp-Session-Id"), "Accept", "application/json, text/event-stream"}
	r := w.do("POST", "/mcp/files", `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"read","arguments":{"path":"/data/public/a"}}}`, session...)
	_, id, ok := strings.Cut(r.body, `"id":"omega-`)
	if !ok {
		w.t.Fatalf("no question: %s", r.body)
	}
	id, _, _ = strings.Cut(id, `"`)
	w.do("POST", "/mcp/files", answer("omega-"+id), session...)
}
