package front

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"omega/policy"
)

// fleet is what stands behind the front in these tests: three agents, and what
// was asked of them.
type fleet struct {
	mu     sync.Mutex
	orders []Order
	reads  []string
	refuse error
	hold   chan struct{} // orders wait for it, if there is one
	begun  chan struct{} // and say so here, if there is one
}

func (f *fleet) agents(_ context.Context, names []string) ([]Agent, error) {
	var out []Agent
	for _, a := range []Agent{{Instance: "r1", Name: "red-1"}, {Instance: "b1", Name: "blue-1"}, {Instance: "o1", Name: "open"}} {
		if slices.Contains(names, a.Name) {
			out = append(out, a)
		}
	}
	return out, nil
}

func (f *fleet) output(_ context.Context, instance, caller string, names []string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if instance != "r1" || !slices.Contains(names, "red-1") {
		return nil, errNoSuchAgent
	}
	f.reads = append(f.reads, caller)
	return []string{"one", "two"}, nil
}

func (f *fleet) order(ctx context.Context, o Order) (*Done, error) {
	if f.begun != nil {
		f.begun <- struct{}{}
	}
	if f.hold != nil {
		select {
		case <-f.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.orders = append(f.orders, o)
	return &Done{Instance: "r2", Name: "red-1", State: "running"}, f.refuse
}

// member is a caller with a key of its own.
func member(t *testing.T, name string, rights, agents []string) (policy.Caller, *tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text, id := publicPEM(t, key.Public())
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return policy.Caller{Name: name, Keys: []policy.Key{{ID: id, PEM: text}}, Rights: rights, Agents: agents},
		&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// house is a front with a fleet behind it and four kinds of callers, over TLS.
type house struct {
	*fleet
	t       *testing.T
	address string
	clients map[string]*http.Client
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{fleet: &fleet{}, t: t, clients: map[string]*http.Client{}}
	d := &policy.Document{Agents: []policy.AgentRule{{Name: "red-1"}, {Name: "blue-1"}, {Name: "open"}}}
	certs := map[string]*tls.Certificate{"nobody": nil}
	for _, m := range []struct {
		name           string
		rights, agents []string
	}{
		{"red", []string{policy.RightObserve, policy.RightDeploy, policy.RightOutput}, []string{"red-*"}},
		{"blue", []string{policy.RightObserve, policy.RightDeploy}, []string{"blue-*"}},
		{"watcher", []string{policy.RightObserve}, []string{"*"}},
		{"starter", []string{policy.RightDeploy}, []string{"*"}},
	} {
		caller, cert := member(t, m.name, m.rights, m.agents)
		d.Callers, certs[m.name] = append(d.Callers, caller), cert
	}
	_, certs["stranger"] = member(t, "stranger", nil, nil)
	d.Callers = append(d.Callers, policy.Caller{Name: "public", Anonymous: true, Rights: []string{policy.RightObserve}, Agents: []string{"open"}})
	callers, err := NewCallers(d, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	f := testFront()
	f.Callers, f.Agents, f.Output, f.Order = callers, h.agents, h.output, h.order
	h.serve(f)
	for name, cert := range certs {
		config := &tls.Config{InsecureSkipVerify: true}
		if cert != nil {
			config.Certificates = []tls.Certificate{*cert}
		}
		h.clients[name] = &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
		t.Cleanup(h.clients[name].CloseIdleConnections)
	}
	return h
}

func (h *house) serve(f *Front) {
	id, err := NewIdentity()
	if err != nil {
		h.t.Fatal(err)
	}
	_, b := token(h.t, id.KeyDigest, time.Now().Add(-time.Minute))
	if err := id.Issue(b); err != nil {
		h.t.Fatal(err)
	}
	l := loopback(h.t)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- (&Service{Identity: id, Handler: f.Handler(), Log: slog.New(slog.DiscardHandler)}).Serve(ctx, l)
	}()
	h.t.Cleanup(func() { cancel(); <-served })
	h.address = "https://" + l.Addr().String()
}

// ask asks as that caller and returns the status and the body.
func (h *house) ask(who, method, path, text string) (int, string) {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), method, h.address+path, strings.NewReader(text))
	if err != nil {
		h.t.Fatal(err)
	}
	resp, err := h.clients[who].Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestEachCallerIsShownTheAgentsThatAreItsOwnToObserve(t *testing.T) {
	h := newHouse(t)
	for who, want := range map[string][]string{
		"nobody": {"o1"}, "stranger": {"o1"}, "red": {"r1", "o1"}, "blue": {"b1", "o1"}, "watcher": {"r1", "b1", "o1"}, "starter": {"o1"},
	} {
		status, text := h.ask(who, "GET", AgentsPath, "")
		var list Agents
		if err := json.Unmarshal([]byte(text), &list); err != nil || status != http.StatusOK {
			t.Fatalf("%s: %d %s: %v", who, status, text, err)
		}
		var got []string
		for _, a := range list.Agents {
			got = append(got, a.Instance)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s sees %v, want %v", who, got, want)
		}
	}
}

func TestOnlyWhoMayDoesWhat(t *testing.T) {
	h := newHouse(t)
	const output, stop = AgentsPath + "/r1/output", AgentsPath + "/r1/stop"
	for _, tt := range []struct {
		who, method, path string
		status            int
		words             string
	}{
		{"red", "GET", output, 200, `"lines":["one","two"]`},
		{"red", "GET", AgentsPath + "/b1/output", 404, "no_such_agent"},
		{"red", "GET", AgentsPath + "/nothing/output", 404, "no_such_agent"},
		{"blue", "GET", output, 403, "output"},
		{"watcher", "GET", output, 403, "you do not have the right: output"},
		{"starter", "GET", output, 403, "output"},
		{"nobody", "GET", output, 401, "needs a caller with the right: output"},
		{"stranger", "GET", output, 401, "needs a caller"},
		{"red", "POST", DeployPath, 200, `"instance":"r2"`},
		{"red", "POST", stop, 200, `"instance":"r2"`},
		{"watcher", "POST", DeployPath, 403, "you do not have the right: deploy"},
		{"watcher", "POST", stop, 403, "deploy"},
		{"nobody", "POST", DeployPath, 401, "deploy"},
		{"stranger", "POST", stop, 401, "deploy"},
		{"red", "GET", DeployPath, 405, ""},
		{"red", "GET", stop, 405, ""},
		{"red", "POST", AgentsPath, 405, ""},
		{"red", "POST", AgentsPath + "/r1/start", 404, ""},
	} {
		status, text := h.ask(tt.who, tt.method, tt.path, "{}")
		if status != tt.status || !strings.Contains(text, tt.words) {
			t.Errorf("%s: %s %s = %d %s, want %d with %q", tt.who, tt.method, tt.path, status, text, tt.status, tt.words)
		}
		var said struct{ Error Problem }
		if status/100 == 4 && status != 405 && tt.words != "" && (json.Unmarshal([]byte(text), &said) != nil || said.Error.Next == "" || said.Error.Code == "") {
			t.Errorf("%s: %s %s: %s does not say what to do next", tt.who, tt.method, tt.path, text)
		}
	}
	want := []Order{
		{Statement: []byte("{}"), Caller: "red", Names: []string{"red-1"}},
		{Statement: []byte("{}"), Caller: "red", Names: []string{"red-1"}, Removes: "r1"},
	}
	if diff := cmp.Diff(want, h.orders); diff != "" {
		t.Errorf("orders: %s", diff)
	}
	if !slices.Equal(h.reads, []string{"red"}) {
		t.Errorf("who read: %v", h.reads)
	}
}

func TestARefusedOrderSaysWhyAndWhatToDoNext(t *testing.T) {
	h := newHouse(t)
	for code, r := range refusals {
		h.refuse = Refuse(code, "because")
		status, text := h.ask("red", "POST", DeployPath, "{}")
		var said struct{ Error Problem }
		if err := json.Unmarshal([]byte(text), &said); err != nil {
			t.Fatal(err)
		}
		if status != r.status || status/100 == 2 || said.Error != (Problem{Code: code, Message: "because", Next: r.next}) || r.next == "" {
			t.Errorf("%s: %d %+v", code, status, said)
		}
	}
	if p := Refuse("unheard of", "x"); p.Code != CodeRefused {
		t.Errorf("an unknown reason is %q", p.Code)
	}
	h.refuse = errors.New("inner detail")
	if status, text := h.ask("red", "POST", DeployPath, "{}"); status != 503 || strings.Contains(text, "inner") {
		t.Errorf("an inner error: %d %s", status, text)
	}
	before := len(h.orders)
	if status, text := h.ask("red", "POST", DeployPath, string(bytes.Repeat([]byte("x"), maxStatement+1))); status != 413 || len(h.orders) != before {
		t.Errorf("a long statement: %d %s", status, text)
	}
}

func TestOneCallersSlowOrdersLeaveRoomForOthers(t *testing.T) {
	h := newHouse(t)
	h.hold = make(chan struct{})
	var wg sync.WaitGroup
	answers := make(chan int, 64)
	for range 3 * maxOrdersPerCaller {
		wg.Go(func() {
			status, _ := h.ask("red", "POST", DeployPath, "{}")
			answers <- status
		})
	}
	for range 2 * maxOrdersPerCaller { // those that have no turn are told at once
		if status := <-answers; status != http.StatusTooManyRequests {
			t.Errorf("an order above the caller's share: %d", status)
		}
	}
	wg.Go(func() {
		status, _ := h.ask("blue", "POST", DeployPath, "{}")
		answers <- status
	})
	close(h.hold)
	for range maxOrdersPerCaller + 1 {
		if status := <-answers; status != http.StatusOK {
			t.Errorf("an order within its share: %d", status)
		}
	}
	wg.Wait()
}

func TestAnOrderThatNobodyWaitsForKeepsItsTurn(t *testing.T) {
	h := newHouse(t)
	h.hold, h.begun = make(chan struct{}), make(chan struct{}, 64)
	release := sync.OnceFunc(func() { close(h.hold) })
	defer time.AfterFunc(5*time.Second, release).Stop() // an order that gets a turn would wait for ever
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range maxOrdersPerCaller {
		wg.Go(func() {
			req, err := http.NewRequestWithContext(ctx, "POST", h.address+DeployPath, strings.NewReader("{}"))
			if err != nil {
				t.Error(err)
				return
			}
			if resp, err := h.clients["red"].Do(req); err == nil {
				resp.Body.Close()
				t.Error("an answer came")
			}
		})
	}
	for range maxOrdersPerCaller {
		<-h.begun
	}
	cancel()
	wg.Wait()
	for range 20 { // the front learns of it a moment later
		time.Sleep(5 * time.Millisecond)
		status, _ := h.ask("red", "POST", DeployPath, "{}")
		if status != http.StatusTooManyRequests {
			t.Fatalf("beside orders that are worked on: %d", status)
		}
	}
	release()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if status, _ := h.ask("red", "POST", DeployPath, "{}"); status == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no turn comes back")
		}
	}
}
