package gateway_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"omega/internal/strictjson"
	"omega/policy"
	"omega/policy/compile"
	"omega/policy/gateway"
)

// friendCard is a card of 0.3, with everything in it that must not reach an agent.
const friendCard = `{"name":"friend","description":"Helps.","url":"http://127.0.0.1:9000/rpc","protocolVersion":"0.3.0","preferredTransport":"JSONRPC",
"additionalInterfaces":[{"url":"http://127.0.0.1:9000/rest","transport":"HTTP+JSON"}],"securitySchemes":{"k":{"type":"apiKey","in":"header","name":"X-Key"}},"security":[{"k":[]}],
"capabilities":{"streaming":true,"pushNotifications":true},"defaultInputModes":["text"],"defaultOutputModes":["text"],"skills":[],"version":"1","supportsAuthenticatedExtendedCard":true}`

// newerCard is one of 1.0.
const newerCard = `{"name":"newer","description":"Helps.","supportedInterfaces":[{"url":"http://127.0.0.1:9000/v1","protocolBinding":"JSONRPC","protocolVersion":"1.0"}],
"capabilities":{"streaming":true},"defaultInputModes":["text"],"defaultOutputModes":["text"],"skills":[],"version":"1"}`

const peersPolicy = `
version: omega/policy/v1
platform: demo
principals:
  - {name: acme, key: keys/acme.pub, roles: [author, tool], names: ["*"]}
servers:
  - {name: files, url: "https://files.example.com/mcp", principal: acme, private: true}
  - {name: vault, url: "https://files.example.com/mcp", principal: acme, private: true, readers: [boss], result: {integrity: trusted, readers: [boss]}}
peers:
  - {name: friend, agent: friend, result: {integrity: trusted}}
  - {name: boss, agent: friend, readers: [boss], result: {integrity: trusted}}
  - {name: newer, agent: newer}
  - {name: far, url: "https://far.example.com/a2a", card: FARCARD, private: true, secrets: [{name: token, header: Authorization, prefix: "Bearer "}]}
  - {name: nobody, agent: absent}
agents:
  - name: asker
    requires: [{role: author, principal: acme}]
    permits:
      - {id: read, action: mcp.tools/call, resource: files/read, args: {path: {type: string}}}
      - {id: secret, action: mcp.tools/call, resource: vault/read, args: {path: {type: string}}}
      - {id: send, action: a2a.message/send, resources: [friend, boss, newer, far, nobody], args: {text: {pattern: "[^!]*"}}, instead: ask politely}
      - {id: fetch, action: a2a.message/send, resource: friend, args: {text: {equals: "fetch!"}, files: {each: {pattern: "https://ok.example/.*"}}}}
      - {id: stream, action: a2a.message/stream, resources: [friend, newer]}
      - {id: get, action: a2a.tasks/get, resources: [friend, newer]}
      - {id: cancel, action: a2a.tasks/cancel, resources: [friend, newer]}
      - {id: again, action: a2a.tasks/resubscribe, resources: [friend, newer]}
  - name: friend
    requires: [{role: author, principal: acme}]
    permits:
      - {id: pay, action: mcp.tools/call, resource: files/twice, consequential: true, result: {integrity: trusted}}
      - {id: look, action: mcp.tools/call, resource: files/read, args: {path: {type: string}}}
  - name: newer
    requires: [{role: author, principal: acme}]
    permits: []
  - name: absent
    requires: [{role: author, principal: acme}]
    permits: []
`

var peersCompiled = sync.OnceValues(func() (measured, error) {
	text := strings.Replace(peersPolicy, "FARCARD", cardDigest(friendCard), 1)
	out, err := compile.Compile([]byte(text), "../compile/testdata")
	if err != nil {
		return measured{}, err
	}
	d, err := policy.NewDecider(context.Background(), out.Wasm)
	return measured{out, d}, err
})

// cardDigest is what a policy pins of a card.
func cardDigest(card string) string {
	var tree any
	if err := json.Unmarshal([]byte(card), &tree); err != nil {
		panic(err)
	}
	b, err := strictjson.Canonical(tree)
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// a2aAgent is an agent that others speak to.
type a2aAgent struct {
	mu     sync.Mutex
	card   string
	answer func(w http.ResponseWriter, method string, params json.RawMessage)
	seen   []string
	header []http.Header
}

func (a *a2aAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	card, answer := a.card, a.answer
	a.mu.Unlock()
	if r.Method == http.MethodGet {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, card)
		return
	}
	body, _ := io.ReadAll(r.Body)
	var m struct {
		Method string
		Params json.RawMessage
	}
	_ = json.Unmarshal(body, &m)
	a.mu.Lock()
	a.seen, a.header = append(a.seen, r.URL.Path+" "+string(body)), append(a.header, r.Header)
	a.mu.Unlock()
	answer(w, m.Method, m.Params)
}

func (a *a2aAgent) requests() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string{}, a.seen...)
}

func (a *a2aAgent) says(answer func(w http.ResponseWriter, method string, params json.RawMessage)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = answer
}

// results answers every request with one of these, and streams with all.
func results(list ...string) func(http.ResponseWriter, string, json.RawMessage) {
	return func(w http.ResponseWriter, method string, _ json.RawMessage) {
		if !strings.Contains(strings.ToLower(method), "stream") && !strings.Contains(strings.ToLower(method), "subscribe") {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":1,"result":%s}`, list[0])
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for _, r := range list {
			fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":%s}\n\n", r)
			_ = http.NewResponseController(w).Flush()
		}
	}
}

// peersWorld is a gateway with an agent that asks and one that is asked.
func peersWorld(t *testing.T, change ...func(*world)) (*world, *a2aAgent) {
	t.Helper()
	w, a := askersWorld(t, change...), &a2aAgent{card: friendCard, answer: results(message03("hello"))}
	serveAgent(t, w.gw, friendAgent("friend-1"), a)
	return w, a
}

// askersWorld is a gateway with an agent that asks, and nobody who answers.
func askersWorld(t *testing.T, change ...func(*world)) *world {
	t.Helper()
	out, err := peersCompiled()
	if err != nil {
		t.Fatal(err)
	}
	return newWorld(t, append([]func(*world){func(w *world) {
		w.cfg.Document, w.cfg.Decider, w.cfg.PolicyDigest = out.Document, out.Decider, out.Digest
		w.cfg.Dial["far.example.com:443"] = w.cfg.Dial["files.example.com:443"]
		w.cfg.Secret = func(string) ([]byte, error) { return []byte("a-secret-token"), nil }
		w.agent = gateway.Agent{Instance: "asker-1", Name: "asker", Tools: pinnedBy("files", "vault"),
			Peers: []gateway.PeerPin{{Name: "friend", Key: authorKey}, {Name: "boss", Bundle: friendBundle}, {Name: "newer", Key: authorKey}, {Name: "far", Key: authorKey}, {Name: "nobody", Key: authorKey}}}
	}}, change...)...)
}

func pinnedBy(servers ...string) (out []gateway.Tool) {
	for _, s := range servers {
		out = append(out, gateway.Tool{Server: s, Descriptors: json.RawMessage(tools)})
	}
	return out
}

var (
	authorKey    = strings.Repeat("ab", 32)
	friendBundle = [32]byte{7}
)

func friendAgent(instance string) gateway.Agent {
	return gateway.Agent{Instance: instance, Name: "friend", Bundle: friendBundle, Keys: []string{authorKey}, Card: json.RawMessage(friendCard), Tools: pinnedBy("files")}
}

func message03(text string) string {
	return fmt.Sprintf(`{"kind":"message","messageId":"m1","role":"agent","parts":[{"kind":"text","text":%q}]}`, text)
}

func task03(id, context, state string) string {
	return fmt.Sprintf(`{"kind":"task","id":%q,"contextId":%q,"status":{"state":%q}}`, id, context, state)
}

// serveAgent opens an agent's inbound link, at whose end it answers.
func serveAgent(t testing.TB, gw *gateway.Gateway, agent gateway.Agent, h http.Handler) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := fileConn(t, fds[0]), fileConn(t, fds[1])
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = gw.ServeInbound(ctx, agent, ours) }()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	l := make(agentConn, 1)
	l <- theirs
	close(l) // the server goes on with its connection
	server := &http.Server{Handler: h, Protocols: &protocols, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	_ = server.Serve(l)
	t.Cleanup(func() { cancel(); _ = server.Close(); _ = theirs.Close(); <-done })
	for end := time.Now().Add(10 * time.Second); !gw.Serves(agent.Instance); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the agent has no door")
		}
	}
}

// send says something to a peer and returns the answer, and whether it is an error.
func (w *world) send(peer, text string) (string, bool) {
	w.t.Helper()
	return w.rpc(peer, "message/send", fmt.Sprintf(`{"message":{"kind":"message","messageId":"q1","role":"user","parts":[{"kind":"text","text":%q}]}}`, text))
}

// rpc asks a peer, and returns the result or the error's words.
func (w *world) rpc(peer, method, params string, header ...string) (string, bool) {
	w.t.Helper()
	r := w.do("POST", "/a2a/"+peer, `{"jsonrpc":"2.0","id":"x-1","method":"`+method+`","params":`+params+`}`, header...)
	var m struct {
		ID     json.RawMessage
		Result json.RawMessage
		Error  *struct {
			Code    int
			Message string
		}
	}
	if err := json.Unmarshal([]byte(r.body), &m); err != nil {
		w.t.Fatalf("answer %d %s: %v", r.status, r.body, err)
	}
	if m.Error != nil {
		return fmt.Sprintf("%d %s", m.Error.Code, m.Error.Message), true
	}
	if string(m.ID) != `"x-1"` {
		w.t.Errorf("the answer has id %s", m.ID)
	}
	return string(m.Result), false
}
