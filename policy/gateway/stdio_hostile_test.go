package gateway_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestHostileServersHurtOnlyThemselves has a process answer a call in each way
// that is wrong. The agent is told in words, and the call has its outcome.
func TestHostileServersHurtOnlyThemselves(t *testing.T) {
	for name, says := range map[string]func(id string) string{
		"a duplicate key":      func(id string) string { return `{"jsonrpc":"2.0","id":` + id + `,"result":{},"result":{}}` },
		"no JSON-RPC":          func(id string) string { return `{"id":` + id + `,"result":{}}` },
		"a batch":              func(id string) string { return strings.Repeat("[]\n", 101) },
		"half a line":          func(string) string { return `{"jsonrpc":` },
		"too long a line":      func(string) string { return `{"` + strings.Repeat("x", 5<<20) + `"}` },
		"an id that is no one": func(string) string { return `{"jsonrpc":"2.0","id":"x","result":{}}` },
		"its own end":          func(string) string { return "die" },
	} {
		t.Run(name, func(t *testing.T) {
			w := stdioWorld(t, func(p *played, m map[string]any) {
				if m["method"] != "tools/call" {
					notes(p, m)
					return
				}
				id, _ := json.Marshal(m["id"])
				line := says(string(id))
				if line == "die" {
					p.memory = append(p.memory, "die")
					return
				}
				p.say(line)
			})
			text, failed := w.call("notes", "note", `{"text":"a"}`)
			if !failed || !strings.Contains(text, "did not answer") {
				t.Errorf("%q, %v", text, failed)
			}
			if kinds := w.log.kinds(); kinds[len(kinds)-1] != "outcome error" {
				t.Errorf("log %q", kinds)
			}
			if text, _ := w.call("notes", "note", `{"text":"b"}`); !strings.Contains(text, "left alone for some seconds") {
				t.Errorf("at once after that: %s", text)
			}
			if len(w.house.started) != 1 || len(w.house.stopped) != 1 {
				t.Errorf("started %q, stopped %q", w.house.started, w.house.stopped)
			}
		})
	}
}

func TestAnswersThatNobodyAskedForAndGreetingsAreNoise(t *testing.T) {
	w := stdioWorld(t, notes)
	w.house.says["start"] = "Welcome to the notes server!\n" + `{"jsonrpc":"2.0","id":99,"result":{}}` + "\n" +
		`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":99,"progress":1}}`
	if text, failed := w.call("notes", "note", `{"text":"a"}`); failed {
		t.Error(text)
	}
}

func TestAServerThatEndedIsStartedAnew(t *testing.T) {
	w := stdioWorld(t, func(p *played, m map[string]any) {
		notes(p, m)
		if p.number == 1 && m["method"] == "tools/call" {
			p.memory = append(p.memory, "die")
		}
	})
	id := w.do("POST", "/mcp/notes", init2025).header.Get("Mcp-Session-Id")
	call := func() string {
		return w.do("POST", "/mcp/notes", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"note","arguments":{"text":"a"}}}`, "Mcp-Session-Id", id).body
	}
	if body := call(); !strings.Contains(body, "process 1") {
		t.Fatal(body)
	}
	body := call()
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(body, "process 2 has a") && time.Now().Before(deadline); body = call() {
		time.Sleep(100 * time.Millisecond)
	}
	if !strings.Contains(body, "process 2 has a") || !strings.Contains(strings.Join(w.house.process(2).saw(), ""), `"initialize"`) {
		t.Errorf("%s; the second process saw %q", body, w.house.process(2).saw())
	}
}

func TestACallThatTheAgentGivesUpIsCancelledAtTheServer(t *testing.T) {
	w := stdioWorld(t, func(p *played, m map[string]any) {
		if m["method"] != "tools/call" {
			notes(p, m)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "POST", "http://127.0.0.1:3128/mcp/notes", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"note","arguments":{"text":"a"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	done := make(chan struct{})
	go func() {
		defer close(done)
		if resp, err := w.client.Do(req); err == nil {
			_ = resp.Body.Close()
		}
	}()
	sees := func(word string) bool {
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			w.house.mu.Lock()
			started := len(w.house.playing)
			w.house.mu.Unlock()
			if started > 0 && strings.Contains(strings.Join(w.house.process(1).saw(), "\n"), word) {
				return true
			}
		}
		return false
	}
	if !sees("tools/call") {
		t.Fatal("the call did not arrive")
	}
	cancel()
	<-done
	if !sees("notifications/cancelled") {
		t.Errorf("the server saw %q", w.house.process(1).saw())
	}
}

func TestAServerThatNobodyDeployedIsSaidToBeMissing(t *testing.T) {
	w := newWorld(t, withStdio(notes))
	text, failed := w.call("notes", "note", `{"text":"a"}`)
	if !failed || !strings.Contains(text, "not deployed") || len(w.house.started) > 0 {
		t.Errorf("%q, %v", text, failed)
	}
}

func TestAServerEndsWithItsAgent(t *testing.T) {
	w := stdioWorld(t, notes)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := fileConn(t, fds[0]), fileConn(t, fds[1])
	ended := make(chan error, 1)
	agent := w.agent
	agent.Instance = "reporter-9"
	go func() { ended <- w.gw.ServeLink(ctx, agent, theirs) }()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols, DialContext: func(context.Context, string, string) (net.Conn, error) { return ours, nil }}
	w.client = &http.Client{Transport: transport, Timeout: 20 * time.Second}
	if text, failed := w.call("notes", "note", `{"text":"a"}`); failed {
		t.Fatal(text)
	}
	_ = ours.Close()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the link did not end")
	}
	if !slices.Equal(w.house.stopped, []string{"notes-1+reporter-9"}) {
		t.Errorf("stopped %q", w.house.stopped)
	}
}
