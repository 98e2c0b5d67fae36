package gateway_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"omega/policy"
	"omega/policy/compile"
	"omega/policy/gateway"
	"omega/policy/provenance"
)

const askPolicy = `
version: omega/policy/v1
platform: demo
principals:
  - {name: acme, key: acme.pub, roles: [author, tool], names: ["*"]}
  - {name: boss, key: boss.pub, roles: [approver], names: ["*"]}
  - {name: chief, key: chief.pub, roles: [approver], names: ["*"]}
servers:
  - {name: files, url: "https://files.example.com/mcp", principal: acme, private: true, readers: [al], result: {integrity: untrusted, readers: [al]}}
callers:
  - {name: al, key: acme.pub, rights: [invoke], agents: ["reporter"]}
  - {name: bo, key: operator.pub, rights: [invoke], agents: ["reporter"], input: {integrity: untrusted}}
  - {name: cy, anonymous: true, rights: [invoke], agents: ["open"]}
  - {name: di, key: toolmaker.pub, rights: [observe, approve], agents: ["reporter"]}
  - {name: ed, key: chief.pub, rights: [approve], agents: ["open"]}
agents:
  - name: reporter
    requires: [{role: author, principal: acme}]
    permits:
      - {id: read, action: mcp.tools/call, resource: files/read, args: {path: {type: string}}}
      - {id: write, action: mcp.tools/call, resource: files/region, args: {region: {type: string}}, consequential: true, endorse: [region]}
      - {id: twice, action: mcp.tools/call, resource: files/twice, more_args: true, approval: boss}
      - {id: delete, action: mcp.tools/call, resource: files/delete, more_args: true, approval: boss, approval_wait: 20, narrows: [read, write]}
  - {name: open, requires: [{role: author, principal: acme}], permits: []}
`

// approvers are the keys of those who approve in askPolicy.
type approvers struct{ boss, chief *ecdsa.PrivateKey }

// keysOf makes a folder with the keys that askPolicy names.
func keysOf(t *testing.T) (string, approvers) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"acme", "operator", "toolmaker"} {
		b, err := os.ReadFile("../compile/testdata/keys/" + name + ".pub")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+".pub"), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	made := func(name string) *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+".pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return key
	}
	return dir, approvers{made("boss"), made("chief")}
}

// askWorld is a gateway under askPolicy with agents that serve, by instance.
func askWorld(t *testing.T, serve map[string]http.HandlerFunc, change ...func(*gateway.Config)) (*world, approvers) {
	t.Helper()
	dir, keys := keysOf(t)
	out, err := compile.Compile([]byte(askPolicy), dir)
	if err != nil {
		t.Fatal(err)
	}
	d, err := policy.NewDecider(t.Context(), out.Wasm)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(w *world) {
		w.cfg.Document, w.cfg.Decider, w.cfg.PolicyDigest, w.cfg.Boot = out.Document, d, out.Digest, [16]byte{7}
		w.agent.Models, w.agent.Tools = nil, w.agent.Tools[:1]
		for _, c := range change {
			c(&w.cfg)
		}
	})
	for instance, h := range serve {
		name, _, _ := strings.Cut(instance, "-")
		w.inbound(gateway.Agent{Instance: instance, Name: name}, h)
	}
	return w, keys
}

var errFull = errors.New("the disk is full")

// inbound lets an agent serve as the shim does, and waits until it is reachable.
func (w *world) inbound(agent gateway.Agent, h http.HandlerFunc) {
	w.t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	ours, theirs := fileConn(w.t, fds[0]), fileConn(w.t, fds[1])
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.gw.ServeInbound(ctx, agent, ours) }()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: h, Protocols: &protocols}
	l := &single{conn: make(chan net.Conn, 1)}
	l.conn <- theirs
	go func() { _ = srv.Serve(l) }()
	w.t.Cleanup(func() { cancel(); _ = srv.Close(); _ = l.Close(); <-ended })
	for deadline := time.Now().Add(10 * time.Second); !w.gw.Serves(agent.Instance); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatal("the agent cannot be reached")
		}
	}
}

type single struct {
	conn chan net.Conn
	once sync.Once
}

func (s *single) Accept() (net.Conn, error) {
	if c, ok := <-s.conn; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (s *single) Close() error   { s.once.Do(func() { close(s.conn) }); return nil }
func (s *single) Addr() net.Addr { return &net.UnixAddr{} }

// echo answers with what it was asked, and by whom.
func echo(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, r.Header.Get("Omega-Caller")+" said "+string(b))
}

func asks(w *world, agent, input string, callers ...string) (*gateway.Answer, error) {
	return w.gw.Ask(w.t.Context(), gateway.Invocation{Agent: agent, Callers: append(callers, "cy"), ContentType: "text/plain", Input: []byte(input)})
}

func codeOf(err error) string {
	var r *gateway.Refusal
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}

func TestACallersRequestIsDecidedEnteredAndAnswered(t *testing.T) {
	w, _ := askWorld(t, map[string]http.HandlerFunc{"reporter-1": echo})
	got, err := asks(w, "reporter", "hello", "al")
	if err != nil {
		t.Fatal(err)
	}
	want := &gateway.Answer{Agent: gateway.Agent{Instance: "reporter-1", Name: "reporter"}, Entry: 3, ContentType: "text/plain", Output: []byte("al said hello")}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	w.wantLog("intent permit invoke", "outcome ok", "intent permit answer:caller", "outcome ok")
	var in struct {
		Args map[string]any `json:"args"`
	}
	if err := json.Unmarshal(w.log.entries[0].Input, &in); err != nil {
		t.Fatal(err)
	}
	if in.Args["caller"] != "al" || in.Args["input"] != "hello" || in.Args["bytes"] != 5.0 {
		t.Errorf("the log says %v", in.Args)
	}
}

func TestNobodyAsksAnAgentThatIsNotTheirs(t *testing.T) {
	heard := false
	w, _ := askWorld(t, map[string]http.HandlerFunc{
		"reporter-1": func(http.ResponseWriter, *http.Request) { heard = true }, "open-1": echo, "twin-1": echo, "twin-2": echo,
	})
	for _, tt := range []struct {
		name, agent string
		callers     []string
		code        string
	}{
		{"anybody", "open", nil, ""},
		{"anybody, another agent", "reporter", nil, gateway.RefusedUnknown},
		{"by its instance", "reporter-1", nil, gateway.RefusedUnknown},
		{"another right", "reporter", []string{"di"}, gateway.RefusedUnknown},
		{"a caller that there is not", "reporter", []string{"eve"}, gateway.RefusedUnknown},
		{"an agent that there is not", "nobody", []string{"al"}, gateway.RefusedUnknown},
		{"an agent that the policy does not know", "twin-1", []string{"al"}, gateway.RefusedUnknown},
		{"one of two", "twin", []string{"al"}, gateway.RefusedUnknown},
		{"nothing", "", []string{"al"}, gateway.RefusedUnknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := asks(w, tt.agent, "x", tt.callers...); codeOf(err) != tt.code || err == nil != (tt.code == "") {
				t.Errorf("%v", err)
			}
		})
	}
	if heard {
		t.Error("an agent heard of a request that was not its caller's to make")
	}
}

func TestWhatACallerSaysIsLabelledAsThePolicySaysOfIt(t *testing.T) {
	for _, tt := range []struct {
		caller string
		labels []string
		writes bool // the value that the caller named
	}{
		{"al", nil, true},
		{"bo", []string{"untrusted:caller/bo"}, false},
	} {
		w, _ := askWorld(t, map[string]http.HandlerFunc{"reporter-1": echo})
		got, err := asks(w, "reporter-1", "write to north", tt.caller)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.labels, got.Labels); diff != "" {
			t.Errorf("%s: %s", tt.caller, diff)
		}
		w.call("files", "read", `{"path":"x"}`) // untrusted text, whoever asked
		if words, isError := w.call("files", "region", `{"region":"north"}`); isError == tt.writes {
			t.Errorf("%s: %s", tt.caller, words)
		}
	}
}

func TestAnAnswerGoesOnlyToWhoMayKnowWhatTheAgentHasRead(t *testing.T) {
	w, _ := askWorld(t, map[string]http.HandlerFunc{"reporter-1": echo})
	if words, isError := w.call("files", "read", `{"path":"al's diary"}`); isError {
		t.Fatal(words)
	}
	if _, err := asks(w, "reporter", "what did you read?", "bo"); codeOf(err) != gateway.RefusedWithheld || !strings.Contains(err.Error(), "that is for al") {
		t.Errorf("to another caller: %v", err)
	}
	if _, err := asks(w, "reporter", "what did you read?", "al"); err != nil {
		t.Errorf("to the one who may know it: %v", err)
	}
}

func TestAnAgentsFaultsAreSaidInOurWords(t *testing.T) {
	for name, tt := range map[string]struct {
		serve http.HandlerFunc
		words string
	}{
		"an error":       {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<b>evil</b>", http.StatusTeapot) }, "status 418"},
		"too much":       {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, gateway.MaxInvocation+1)) }, "too long"},
		"a broken piece": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "hung up"},
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := askWorld(t, map[string]http.HandlerFunc{"reporter-1": tt.serve})
			_, err := asks(w, "reporter", "x", "al")
			if codeOf(err) != gateway.RefusedFailed || !strings.Contains(err.Error(), tt.words) || strings.Contains(err.Error(), "evil") {
				t.Errorf("%v", err)
			}
			w.wantLog("intent permit invoke", "outcome error")
		})
	}
}

func TestWithoutTheLogNoRequestReachesAnAgentAndNoAnswerACaller(t *testing.T) {
	for name, tt := range map[string]struct {
		kind   string
		action string
		heard  bool
	}{
		"no intent":                {provenance.KindIntent, policy.ActionInvoke, false},
		"no outcome":               {provenance.KindOutcome, policy.ActionInvoke, true},
		"no intent of the answer":  {provenance.KindIntent, policy.ActionAnswer, true},
		"no outcome of the answer": {provenance.KindOutcome, policy.ActionAnswer, true},
	} {
		t.Run(name, func(t *testing.T) {
			heard := make(chan bool, 1)
			w, _ := askWorld(t, map[string]http.HandlerFunc{"reporter-1": func(w http.ResponseWriter, _ *http.Request) {
				heard <- true
				_, _ = io.WriteString(w, "secret")
			}})
			w.log.fail = func(e provenance.Entry) error {
				if e.Kind == tt.kind && e.Action == tt.action {
					return errFull
				}
				return nil
			}
			if got, err := asks(w, "reporter", "x", "al"); codeOf(err) != gateway.RefusedLog || got != nil && err == nil {
				t.Errorf("%v %v", got, err)
			}
			if (len(heard) > 0) != tt.heard {
				t.Errorf("the agent has heard of it: %v", !tt.heard)
			}
		})
	}
}

func TestLongRequestsStandInTheLogByDigest(t *testing.T) {
	w, _ := askWorld(t, map[string]http.HandlerFunc{"reporter-1": func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, http.StatusText(int(n/1024)))
	}})
	for name, input := range map[string]string{
		"long": strings.Repeat("x", 200<<10), "not UTF-8": "\xff" + strings.Repeat("x", 199<<10), "what JSON escapes": strings.Repeat("\x01", 20<<10), "nothing": "",
	} {
		if _, err := asks(w, "reporter", input, "al"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := asks(w, "reporter", strings.Repeat("x", gateway.MaxInvocation+1), "al"); codeOf(err) != gateway.RefusedLong {
		t.Errorf("too long: %v", err)
	}
}
