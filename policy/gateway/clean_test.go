package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"omega/policy"
	"omega/policy/compile"
	"omega/policy/gateway"
)

const cleanPolicy = `
version: omega/policy/v1
platform: demo
principals:
  - {name: acme, key: keys/acme.pub, roles: [author, tool], names: ["*"]}
servers:
  - {name: files, url: "https://files.example.com/mcp", principal: acme, private: true, readers: [al, bo]}
callers:
  - {name: al, key: keys/acme.pub, rights: [invoke], agents: ["*"]}
  - {name: bo, key: keys/operator.pub, rights: [invoke], agents: ["*"]}
  - {name: cy, anonymous: true, rights: [invoke], agents: ["*"]}
  - {name: di, key: keys/toolmaker.pub, rights: [observe], agents: ["*"]}
agents:
  - name: desk
    requires: [{role: author, principal: acme}]
    sessions: clean
    permits:
      - {id: read, action: mcp.tools/call, resource: files/read, args: {path: {type: string}}, limit: 1}
`

// hotel plays sandboxd for agents that have a sandbox for each session. Each
// sandbox answers with its number and all that it was told.
type hotel struct {
	t  *testing.T
	gw *gateway.Gateway

	mu      sync.Mutex // guards what follows
	began   []string
	ended   []string
	fails   error
	closing map[string]func()
	hold    chan struct{}     // an engine answers once it is closed
	out     map[string]func() // closes a sandbox's way out, where it has one
	deaf    bool              // what it is told to end runs on
}

func (h *hotel) Start(_ context.Context, offer, instance string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fails != nil {
		return h.fails
	}
	if h.closing[instance] != nil {
		return errors.New("the one before still runs")
	}
	h.began = append(h.began, instance)
	number := len(h.began)
	var mu sync.Mutex
	var told []string
	return h.open("desk", instance, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		told = append(told, string(b))
		_, _ = io.WriteString(w, fmt.Sprintf("sandbox %d was told %s", number, strings.Join(told, ", ")))
	}))
}

// open makes a sandbox that answers by a handler. The lock is held.
func (h *hotel) open(name, instance string, handler http.Handler) error {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ours, theirs := fileConn(h.t, fds[0]), fileConn(h.t, fds[1])
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Protocols: &protocols, Handler: handler}
	l := &single{conn: make(chan net.Conn, 1)}
	l.conn <- theirs
	go func() { _ = srv.Serve(l) }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = h.gw.ServeInbound(context.Background(), gateway.Agent{Instance: instance, Name: name}, ours)
	}()
	stop := sync.OnceFunc(func() { _ = srv.Close(); _ = theirs.Close(); _ = l.Close(); <-done })
	if h.closing == nil {
		h.closing = map[string]func(){}
	}
	h.closing[instance] = stop
	h.t.Cleanup(stop)
	return nil
}

func (h *hotel) Stop(_, instance string) {
	h.mu.Lock()
	if h.ended = append(h.ended, instance); h.deaf {
		h.mu.Unlock()
		return
	}
	stop, out := h.closing[instance], h.out[instance]
	delete(h.closing, instance)
	delete(h.out, instance)
	h.mu.Unlock()
	if out != nil {
		out()
	}
	if stop != nil {
		stop()
	}
}

var cleanCompiled = sync.OnceValues(func() (measured, error) {
	out, err := compile.Compile([]byte(cleanPolicy), "../compile/testdata")
	if err != nil {
		return measured{}, err
	}
	d, err := policy.NewDecider(context.Background(), out.Wasm)
	return measured{out, d}, err
})

func cleanWorld(t *testing.T) (*world, *hotel) {
	t.Helper()
	out, err := cleanCompiled()
	if err != nil {
		t.Fatal(err)
	}
	h := &hotel{t: t}
	w := newWorld(t, func(w *world) {
		w.cfg.Document, w.cfg.Decider, w.cfg.PolicyDigest, w.cfg.Starter = out.Document, out.Decider, out.Digest, h
		w.agent = gateway.Agent{Instance: "desk-1+s1", Name: "desk", Tools: w.agent.Tools[:1]}
	})
	h.gw, h.out = w.gw, map[string]func(){"desk-1+s1": func() { _ = w.client.Transport.(*http.ClientConn).Close() }}
	w.gw.Offer("desk", "desk-1")
	return w, h
}

// say asks the desk in a session and returns its words, or the refusal's code.
func (w *world) say(caller, session, input string) string {
	w.t.Helper()
	got, err := w.gw.Ask(w.t.Context(), gateway.Invocation{Agent: "desk", Session: session, Callers: []string{caller}, ContentType: "text/plain", Input: []byte(input)})
	if err != nil {
		return codeOf(err)
	}
	return string(got.Output)
}

func TestEachSessionHasASandboxOfItsOwn(t *testing.T) {
	w, h := cleanWorld(t)
	for _, test := range []struct{ caller, session, input, want string }{
		{"al", "one", "a", "sandbox 1 was told a"},
		{"al", "one", "b", "sandbox 1 was told a, b"},
		{"al", "two", "c", "sandbox 2 was told c"},
		{"bo", "one", "d", "sandbox 3 was told d"}, // another caller's session of that name
		{"al", "two", "e", "sandbox 2 was told c, e"},
		{"al", "", "f", "sandbox 4 was told f"}, // no session: one for this request
		{"al", "", "g", "sandbox 5 was told g"},
		{"cy", "one", "h", "sandbox 6 was told h"}, // nobody knows which anybody it is
		{"cy", "one", "i", "sandbox 7 was told i"},
		{"di", "one", "x", gateway.RefusedUnknown},
	} {
		if got := w.say(test.caller, test.session, test.input); got != test.want {
			t.Errorf("%s in session %q: %q, want %q", test.caller, test.session, got, test.want)
		}
	}
	want := []string{"desk-1+s1", "desk-1+s2", "desk-1+s3", "desk-1+s4", "desk-1+s4", "desk-1+s4", "desk-1+s4"}
	if !slices.Equal(h.began, want) {
		t.Errorf("started %q, want %q", h.began, want)
	}
	if want := []string{"desk-1+s4", "desk-1+s4", "desk-1+s4", "desk-1+s4"}; !slices.Equal(h.ended, want) {
		t.Errorf("ended %q, want %q", h.ended, want)
	}
}

func TestASandboxOfASessionIsFoundByItsSessionAlone(t *testing.T) {
	w, _ := cleanWorld(t)
	w.say("al", "one", "secret")
	for _, agent := range []string{"desk-1+s1", "desk-1+s9"} {
		got, err := w.gw.Ask(t.Context(), gateway.Invocation{Agent: agent, Session: "other", Callers: []string{"bo"}, Input: []byte("x")})
		if codeOf(err) != gateway.RefusedUnknown {
			t.Errorf("%s: %v, %v", agent, got, err)
		}
	}
	got, err := w.gw.Ask(t.Context(), gateway.Invocation{Agent: "desk-1", Session: "one", Callers: []string{"al"}, Input: []byte("x")})
	if err != nil || string(got.Output) != "sandbox 1 was told secret, x" {
		t.Errorf("by the name of the deployment: %v, %v", got, err)
	}
}

func TestASessionsPlaceKnowsNothingOfTheOneBefore(t *testing.T) {
	w, h := cleanWorld(t)
	now := time.Now()
	w.cfg.Now = func() time.Time { return now }
	w.restart()
	h.gw = w.gw
	w.gw.Offer("desk", "desk-1")
	for i := range 16 {
		w.say("al", fmt.Sprintf("session %d", i), "a")
	}
	if text, failed := w.call("files", "read", `{"path":"a"}`); failed {
		t.Fatal(text)
	}
	if text, failed := w.call("files", "read", `{"path":"b"}`); !failed {
		t.Fatalf("beyond its limit: %s", text)
	}
	if got := w.say("al", "one more", "x"); got != gateway.RefusedBusy {
		t.Errorf("a seventeenth session: %q", got)
	}
	if got := w.say("al", "session 3", "b"); got != "sandbox 4 was told a, b" {
		t.Errorf("a session that has its place: %q", got)
	}
	now = now.Add(11 * time.Minute)
	if got := w.say("al", "one more", "x"); got != "sandbox 17 was told x" || h.began[16] != "desk-1+s1" {
		t.Errorf("in an idle one's place: %q, %q", got, h.began)
	}
	w.client = w.connect(w.agent)
	if text, failed := w.call("files", "read", `{"path":"a"}`); failed {
		t.Errorf("what the session before did counts: %s", text)
	}
	got, err := w.gw.Ask(t.Context(), gateway.Invocation{Agent: "desk", Session: "one more", Callers: []string{"al"}, Input: []byte("y")})
	if err != nil || strings.Contains(string(got.Output), "told a") {
		t.Errorf("%v, %v", got, err)
	}
}

func TestAnotherDeploymentHasSandboxesOfItsOwn(t *testing.T) {
	w, h := cleanWorld(t)
	w.say("al", "one", "a")
	w.say("al", "", "b")
	w.gw.Offer("desk", "desk-2")
	if got := w.say("al", "one", "c"); got != "sandbox 1 was told a, c" {
		t.Errorf("a session that began before: %q", got)
	}
	if got := w.say("al", "two", "d"); got != "sandbox 3 was told d" || h.began[2] != "desk-2+s2" {
		t.Errorf("%q, started %q", got, h.began)
	}
}

func TestALostSandboxEndsItsSession(t *testing.T) {
	w, h := cleanWorld(t)
	w.say("al", "one", "a")
	h.Stop("", "desk-1+s1")
	if got := w.say("al", "one", "b"); got != gateway.RefusedFailed {
		t.Errorf("a session whose memory is gone goes on: %q", got)
	}
	if got := w.say("al", "one", "c"); got != "sandbox 2 was told c" {
		t.Errorf("after that was said: %q", got)
	}
}

func TestWithoutASandboxASessionIsRefused(t *testing.T) {
	w, h := cleanWorld(t)
	h.fails = errors.New("no memory at /sys/fs/cgroup")
	if got := w.say("al", "one", "a"); got != gateway.RefusedFailed {
		t.Errorf("%q", got)
	}
	h.fails = nil
	if got := w.say("al", "one", "a"); got != "sandbox 1 was told a" {
		t.Errorf("afterwards: %q", got)
	}
}

func TestCallersOfOneSessionAtOnceShareItsSandbox(t *testing.T) {
	w, h := cleanWorld(t)
	var asking sync.WaitGroup
	for range 8 {
		asking.Go(func() {
			if got := w.say("al", "one", "a"); !strings.HasPrefix(got, "sandbox 1 ") {
				t.Errorf("%q", got)
			}
		})
	}
	asking.Wait()
	if len(h.began) != 1 {
		t.Errorf("started %q", h.began)
	}
}

func TestASessionsSandboxHasANameThatNoDeploymentHas(t *testing.T) {
	w, h := cleanWorld(t)
	for _, offer := range []string{"desk-1", strings.Repeat("d", 40), strings.Repeat("d", 63)} {
		w.gw.Offer("desk", offer)
		if got := w.say("al", "with "+offer, "a"); got == "" {
			t.Fatal("no answer")
		}
	}
	seen := map[string]bool{}
	for _, name := range h.began {
		if !strings.Contains(name, "+") || len(name) > 63 || seen[name] { // bundle.ValidName knows no plus
			t.Errorf("%q is a deployment's name, or no name, or given twice", name)
		}
		seen[name] = true
	}
	if len(seen) != 3 {
		t.Errorf("started %q", h.began)
	}
}

func TestASandboxThatDoesNotEndKeepsItsPlaceAndItsPast(t *testing.T) {
	w, h := cleanWorld(t)
	now := time.Now()
	var mu sync.Mutex
	w.cfg.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	w.restart()
	h.gw = w.gw
	w.gw.Offer("desk", "desk-1")
	w.say("al", "one", "a")
	if text, failed := w.call("files", "read", `{"path":"a"}`); failed {
		t.Fatal(text)
	}
	for i := range 15 {
		w.say("al", fmt.Sprintf("session %d", i), "a")
	}
	mu.Lock()
	now = now.Add(11 * time.Minute)
	mu.Unlock()
	h.deaf = true
	defer func() { h.deaf = false }()
	got := make(chan string)
	go func() { got <- w.say("bo", "another", "x") }()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		h.mu.Lock()
		told := len(h.ended) > 0
		h.mu.Unlock()
		if told {
			break
		}
	}
	if text, failed := w.call("files", "read", `{"path":"b"}`); !failed {
		t.Errorf("while it runs on, what it did is forgotten: %s", text)
	}
	if len(h.began) != 16 {
		t.Errorf("started beside it: %q", h.began)
	}
	h.mu.Lock()
	h.deaf = false
	h.mu.Unlock()
	h.Stop("desk-1", "desk-1+s1")
	if words := <-got; words != "sandbox 17 was told x" {
		t.Errorf("once it has ended: %q", words)
	}
}

func TestASessionIsItsPlatformsOfOneBoot(t *testing.T) {
	w, _ := cleanWorld(t)
	from := func(peer string) string {
		t.Helper()
		got, err := w.gw.Ask(t.Context(), gateway.Invocation{Agent: "desk", Session: "one", Callers: []string{"al"}, Peer: peer, ContentType: "text/plain", Input: []byte("a")})
		if err != nil {
			t.Fatal(err)
		}
		return string(got.Output)
	}
	for _, step := range [][2]string{
		{"", "sandbox 1 was told a"}, {"01", "sandbox 2 was told a"}, {"02", "sandbox 3 was told a"}, {"01", "sandbox 2 was told a, a"},
	} {
		if got := from(step[0]); got != step[1] {
			t.Errorf("of platform %q: %s, want %s", step[0], got, step[1])
		}
	}
}
