package front

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"omega/attest/atls"
	"omega/policy"
	"omega/policy/compile"
	"omega/policy/gateway"
	"omega/policy/provenance"
)

const (
	helperCard = `{"name":"helper","description":"Helps.","url":"http://127.0.0.1:9000/rpc","protocolVersion":"0.3.0","capabilities":{"streaming":true},"defaultInputModes":["text"],"defaultOutputModes":["text"],"skills":[],"version":"1"}`

	asksPolicy = `
version: omega/policy/v1
platform: here
principals: [{name: acme, key: keys/acme.pub, roles: [author], names: ["*"]}]
peers: [{name: helper, url: "https://there.example:8443/peer/a2a/helper", attested: true, private: true, readers: [boss], result: {integrity: trusted}}]
agents:
  - name: asker
    requires: [{role: author, principal: acme}]
    input: {integrity: untrusted}
    permits:
      - {id: send, action: a2a.message/send, resource: helper}
      - {id: stream, action: a2a.message/stream, resource: helper}
      - {id: get, action: a2a.tasks/get, resource: helper}
`
	helpsPolicy = `
version: omega/policy/v1
platform: there
principals: [{name: acme, key: keys/acme.pub, roles: [author], names: ["*"]}]
peers: [{name: customer, url: "https://here.example:8443/peer/a2a/asker", attested: true, result: {integrity: trusted}}]
agents:
  - name: helper
    requires: [{role: author, principal: acme}]
    permits:
      - {id: take, action: a2a.receive, resource: customer, args: {text: {pattern: "[^!]*", optional: true}}, instead: ask politely}
  - name: hidden
    requires: [{role: author, principal: acme}]
    permits: []
`
)

var author = strings.Repeat("ab", 32)

// platform is a guest with a gateway behind its front.
type platform struct {
	*guest
	gw  *gateway.Gateway
	log *entries
}

// entries is a log in memory.
type entries struct {
	mu   sync.Mutex
	list []provenance.Entry
}

func (l *entries) Record(_ context.Context, e provenance.Entry) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, e)
	return uint64(len(l.list) - 1), nil
}

func (l *entries) words() (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.list {
		var r struct{ Status string }
		_ = json.Unmarshal(e.Result, &r)
		out = append(out, strings.Join(strings.Fields(e.Kind+" "+e.Decision+" "+e.Rule+" "+r.Status), " "))
	}
	return out
}

func (l *entries) last() provenance.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.list[len(l.list)-1]
}

func newPlatform(t *testing.T, n byte, text string, change func(*gateway.Config)) *platform {
	t.Helper()
	out, err := compile.Compile([]byte(text), "../../../policy/compile/testdata")
	if err != nil {
		t.Fatal(err)
	}
	decider, err := policy.NewDecider(t.Context(), out.Wasm)
	if err != nil {
		t.Fatal(err)
	}
	p := &platform{guest: newGuest(t, n), log: &entries{}}
	cfg := gateway.Config{Document: out.Document, Decider: decider, Recorder: p.log, Roots: x509.NewCertPool(),
		Log: slog.New(slog.DiscardHandler), PolicyDigest: out.Digest, Timeout: 10 * time.Second}
	if change != nil {
		change(&cfg)
	}
	if p.gw, err = gateway.New(cfg); err != nil {
		t.Fatal(err)
	}
	return p
}

func pair(t *testing.T) (net.Conn, net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "link")
		if ends[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	t.Cleanup(func() { _ = ends[0].Close(); _ = ends[1].Close() })
	return ends[0], ends[1]
}

// takes lets the platform's front take what agents of other platforms send.
func (p *platform) takes(t *testing.T, peers *Peers) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	peers.Link = func(_ context.Context, from *atls.Peer) (net.Conn, error) {
		near, far := pair(t)
		boot := from.Evidence.Boot
		go func() {
			_ = p.gw.ServePlatform(ctx, gateway.Platform{Boot: boot.BootID, Policy: boot.PolicyDigest}, far)
		}()
		return near, nil
	}
	return p.serve(t, peers)
}

// attests lets a gateway dial with its platform's own evidence.
func attests(peers func() *Peers, address func() string) func(*gateway.Config) {
	return func(cfg *gateway.Config) {
		cfg.Attest = func(ctx context.Context, raw net.Conn) (net.Conn, gateway.Platform, error) {
			conn, peer, err := Dial(ctx, "", peers(), func(context.Context, string, string) (net.Conn, error) { return raw, nil })
			if err != nil {
				return nil, gateway.Platform{}, err
			}
			return conn, gateway.Platform{Boot: peer.Evidence.Boot.BootID}, nil
		}
		cfg.Dial = map[string]string{"there.example:8443": address()}
	}
}

// serves opens an agent's inbound link.
func (p *platform) serves(t *testing.T, agent gateway.Agent, h http.Handler) {
	t.Helper()
	near, far := pair(t)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go func() { _ = p.gw.ServeInbound(ctx, agent, near) }()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	q := newQueue(&net.UnixAddr{})
	server := &http.Server{Handler: h, Protocols: &protocols, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go func() { _ = server.Serve(q) }()
	q.put(far)
	t.Cleanup(func() { _ = server.Close() })
	for end := time.Now().Add(10 * time.Second); !p.gw.Serves(agent.Instance); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the agent has no door")
		}
	}
}

// agent opens an agent's link and returns a client on it.
func (p *platform) agent(t *testing.T, agent gateway.Agent) *http.Client {
	t.Helper()
	near, far := pair(t)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go func() { _ = p.gw.ServeLink(ctx, agent, far) }()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols, DialContext: func(context.Context, string, string) (net.Conn, error) { return near, nil }}
	link, err := transport.NewClientConn(ctx, "http", "gateway:80")
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Transport: link, Timeout: 20 * time.Second}
}

// helper is the agent that is asked.
type helper struct {
	mu   sync.Mutex
	card string
	seen []string
}

func (h *helper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodGet {
		_, _ = io.WriteString(w, h.card)
		return
	}
	b, _ := io.ReadAll(r.Body)
	h.seen = append(h.seen, string(b))
	task := `{"jsonrpc":"2.0","id":1,"result":{"kind":"task","id":"t1","contextId":"c1","status":{"state":"working"}}}`
	if !strings.Contains(string(b), "message/stream") {
		_, _ = io.WriteString(w, task)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprintf(w, "data: %s\n\n", task)
	_ = http.NewResponseController(w).Flush()
	fmt.Fprint(w, `data: {"jsonrpc":"2.0","id":1,"result":{"kind":"status-update","taskId":"t1","contextId":"c1","final":true,"status":{"state":"completed"}}}`+"\n\n")
}

func (h *helper) requests() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.seen)
}

func ask(t *testing.T, client *http.Client, method, params string) string {
	t.Helper()
	resp, err := client.Post("http://127.0.0.1:3128/a2a/helper", "application/json",
		strings.NewReader(`{"jsonrpc":"2.0","id":"q","method":"`+method+`","params":`+params+`}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func words(text string) string {
	return fmt.Sprintf(`{"message":{"kind":"message","messageId":"q1","role":"user","parts":[{"kind":"text","text":%q}]}}`, text)
}

// twoPlatforms are one with an agent that asks, and one with an agent that helps.
func twoPlatforms(t *testing.T) (here, there *platform, asked *helper) {
	t.Helper()
	there = newPlatform(t, 2, helpsPolicy, nil)
	var address string
	here = newPlatform(t, 1, asksPolicy, nil)
	address = there.takes(t, there.peers(t, here.guest))
	guest := here.guest
	change := attests(func() *Peers { return guest.peers(t, there.guest) }, func() string { return address })
	here = newPlatform(t, 1, asksPolicy, change)
	here.guest = guest
	asked = &helper{card: helperCard}
	there.serves(t, gateway.Agent{Instance: "helper-1", Name: "helper", Bundle: [32]byte{9}, Keys: []string{author}, Card: json.RawMessage(helperCard)}, asked)
	return here, there, asked
}

func asker(instance string) gateway.Agent {
	return gateway.Agent{Instance: instance, Name: "asker", Bundle: [32]byte{8}, Keys: []string{author}, Peers: []gateway.PeerPin{{Name: "helper", Key: author}}}
}

func TestAgentsOfTwoPlatformsTalkUnderBothPolicies(t *testing.T) {
	here, there, asked := twoPlatforms(t)
	one := here.agent(t, asker("asker-1"))
	if got := ask(t, one, "message/send", words("hello")); !strings.Contains(got, `"id":"q"`) || !strings.Contains(got, `"t1"`) {
		t.Fatalf("%s", got)
	}
	if want := []string{"intent permit send", "outcome send ok"}; !slices.Equal(here.log.words(), want) {
		t.Errorf("here %q, want %q", here.log.words(), want)
	}
	if want := []string{"intent permit take", "outcome take ok"}; !slices.Equal(there.log.words(), want) {
		t.Errorf("there %q, want %q", there.log.words(), want)
	}
	if got := ask(t, one, "message/stream", words("hello")); strings.Count(got, "data: ") != 2 || !strings.Contains(got, "completed") {
		t.Errorf("a stream: %s", got)
	}
	if got := ask(t, one, "tasks/get", `{"id":"t1"}`); !strings.Contains(got, `"t1"`) {
		t.Errorf("its own task: %s", got)
	}
	two := here.agent(t, asker("asker-2"))
	if got := ask(t, two, "tasks/get", `{"id":"t1"}`); !strings.Contains(got, "-32001") {
		t.Errorf("another's task: %s", got)
	}
	before := asked.requests()
	if got := ask(t, one, "message/send", words("now!")); !strings.Contains(got, "ask politely") {
		t.Errorf("what the other side's policy denies: %s", got)
	}
	if asked.requests() != before {
		t.Error("it reached the agent")
	}
	resp, err := one.Get("http://127.0.0.1:3128/a2a/helper/.well-known/agent-card.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); !strings.Contains(string(b), `"url":"http://127.0.0.1:3128/a2a/helper"`) {
		t.Errorf("the card: %s", b)
	}
}

func TestLabelsCrossPlatforms(t *testing.T) {
	here, there, _ := twoPlatforms(t)
	one := here.agent(t, asker("asker-1"))
	if err := here.gw.Invoke(t.Context(), asker("asker-1"), json.RawMessage(`{"input":"x"}`), "readers:boss"); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, one, "message/send", words("hello")); !strings.Contains(got, `"t1"`) {
		t.Fatalf("%s", got)
	}
	// The helper has now read what is for the boss, and its customer may not.
	if got := ask(t, one, "message/send", words("again")); !strings.Contains(got, "only for boss") {
		t.Errorf("%s", got)
	}
	if last := there.log.last(); !strings.Contains(string(last.Input), "readers:boss") || !strings.Contains(string(last.Input), "untrusted:") {
		t.Errorf("the helper's labels: %s", last.Input)
	}
}

func TestAPlatformIsNotBelievedBeyondItsEvidence(t *testing.T) {
	here, there, asked := twoPlatforms(t)
	t.Run("an agent that its policy does not name", func(t *testing.T) {
		body := fmt.Sprintf(`{"version":"omega/peer/v1","from":{"name":"stranger","instance":"s","bundle":"%064x","keys":[]},"key":%q,"labels":[],"request":{"jsonrpc":"2.0","id":1,"method":"message/send","params":%s}}`, 1, author, words("hi"))
		if got := speak(t, here, there, "POST", "/peer/a2a/helper", body); !strings.Contains(got, "no agent of that name") {
			t.Errorf("%s", got)
		}
	})
	for name, change := range map[string]func(string) string{
		"a label that is none":    func(s string) string { return strings.Replace(s, `"labels":[]`, `"labels":["trusted"]`, 1) },
		"a key twice":             func(s string) string { return strings.Replace(s, `"labels":[]`, `"labels":[],"labels":[]`, 1) },
		"no labels":               func(s string) string { return strings.Replace(s, `"labels":[],`, ``, 1) },
		"another version":         func(s string) string { return strings.Replace(s, "omega/peer/v1", "omega/peer/v2", 1) },
		"a bundle that is not it": func(s string) string { return strings.Replace(s, `"key":"ab`, `"key":"cd`, 1) },
		"a webhook": func(s string) string {
			return strings.Replace(s, `"params":{`, `"params":{"configuration":{"pushNotificationConfig":{"url":"http://169.254.169.254"}},`, 1)
		},
		"a task of nobody's": func(s string) string { return strings.Replace(s, `"messageId"`, `"taskId":"t9","messageId"`, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			before := asked.requests()
			body := fmt.Sprintf(`{"version":"omega/peer/v1","from":{"name":"asker","instance":"s","bundle":"%064x","keys":[]},"key":%q,"labels":[],"request":{"jsonrpc":"2.0","id":1,"method":"message/send","params":%s}}`, 1, author, words("hi"))
			if got := speak(t, here, there, "POST", "/peer/a2a/helper", change(body)); !strings.Contains(got, "error") {
				t.Errorf("%s", got)
			}
			if asked.requests() != before {
				t.Error("it reached the agent")
			}
		})
	}
	for _, path := range []string{"/peer/a2a/hidden", "/peer/a2a/hidden/card", "/peer/a2a/nobody", "/peer/a2a/helper/other", "/mcp/files", "/v1/models"} {
		if got := speak(t, here, there, "GET", path, ""); !strings.Contains(got, "error") && !strings.Contains(got, "404") {
			t.Errorf("%s: %s", path, got)
		}
	}
}

// speak says something on an attested connection, as a platform whose gateway was
// taken over could.
func speak(t *testing.T, here, there *platform, method, path, body string) string {
	t.Helper()
	address := there.takes(t, there.peers(t, here.guest))
	conn, _, err := Dial(t.Context(), address, here.peers(t, there.guest), (&net.Dialer{}).DialContext)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}}
	req, err := http.NewRequest(method, "http://there"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

func TestAPeerThatWasNotAppraisedSendsNothing(t *testing.T) {
	here, there, asked := twoPlatforms(t)
	address := there.takes(t, there.peers(t, newGuest(t, 3)))
	if _, _, err := Dial(t.Context(), address, here.peers(t, there.guest), (&net.Dialer{}).DialContext); err == nil {
		t.Error("connected to a platform that accepts another")
	}
	plain := there.takes(t, there.peers(t, here.guest))
	client := insecureClient()
	resp, err := client.Post("https://"+plain+"/peer/a2a/helper", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound || asked.requests() != 0 {
		t.Errorf("who did not attest is answered %d", resp.StatusCode)
	}
}

// insecureClient is an ordinary client that trusts anybody.
func insecureClient() *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
}
