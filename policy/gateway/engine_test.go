package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"omega/policy"
	"omega/policy/compile"
	"omega/policy/gateway"
)

const enginePolicy = `
version: omega/policy/v1
platform: demo
principals:
  - {name: acme, key: keys/acme.pub, roles: [author, engine, model], names: ["*"]}
models:
  - {name: tiny, engine: llama, max_tokens: 64}
agents:
  - {name: llama, requires: [{role: engine, principal: acme}], permits: []}
  - name: desk
    requires: [{role: author, principal: acme}, {role: engine, principal: acme}]
    permits:
      - {id: ask, action: llm.chat, resource: tiny, args: {engine_bundle: {enum: ["0700000000000000000000000000000000000000000000000000000000000000"]}}}
`

var engineCompiled = sync.OnceValues(func() (measured, error) {
	out, err := compile.Compile([]byte(enginePolicy), "../compile/testdata")
	if err != nil {
		return measured{}, err
	}
	d, err := policy.NewDecider(context.Background(), out.Wasm)
	return measured{out, d}, err
})

// StartEngine makes an engine that says which process it is, and what it got. It is
// not well when it is asked first, as one that loads its model, and does not answer
// while it is held.
func (h *hotel) StartEngine(_ context.Context, offer, instance, agent string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fails != nil {
		return h.fails
	}
	h.began = append(h.began, instance+" for "+agent)
	var asked atomic.Int32
	return h.open("llama", instance, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/health" {
			if asked.Add(1) == 1 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return
		}
		h.mu.Lock()
		hold := h.hold
		h.mu.Unlock()
		if hold != nil {
			<-hold
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"process": instance, "path": r.URL.Path, "got": string(b), "loaded": asked.Load() > 1})
	}))
}

const engineAsk = `{"model":"tiny","messages":[{"role":"user","content":"x"}]}`

// engineWorld has an engine with so many processes, and an agent without adapters.
func engineWorld(t *testing.T, processes int) (*world, *hotel) {
	t.Helper()
	out, err := engineCompiled()
	if err != nil {
		t.Fatal(err)
	}
	h := &hotel{t: t}
	w := newWorld(t, func(w *world) {
		w.cfg.Document, w.cfg.Decider, w.cfg.PolicyDigest, w.cfg.Starter = out.Document, out.Decider, out.Digest, h
		w.agent = deskWith("desk-1", 0)
	})
	h.gw = w.gw
	w.gw.OfferEngine("llama", gateway.EngineOffer{Instance: "llama-1", Bundle: [32]byte{7}, Health: "/health", Processes: processes})
	return w, h
}

// deskWith is an agent with a set of adapters; none for zero.
func deskWith(instance string, set byte) gateway.Agent {
	a := gateway.Agent{Instance: instance, Name: "desk", Models: []string{"tiny"},
		Engine: &gateway.EnginePin{Name: "llama", Bundle: [32]byte{7}, Model: [32]byte{8}, Set: [32]byte{set}}}
	if set != 0 {
		a.Engine.Adapters = [][32]byte{{set}}
	}
	return a
}

// as speaks for another agent.
func (w *world) as(a gateway.Agent) *world {
	other := *w
	other.client = w.connect(a)
	return &other
}

// process asks the model and says which process answered, or the refusal.
func (w *world) process() string {
	w.t.Helper()
	r := w.do("POST", chatPath, engineAsk)
	var m struct {
		Process string
		Loaded  bool
		Error   struct{ Message string }
	}
	if err := json.Unmarshal([]byte(r.body), &m); err != nil {
		w.t.Fatalf("%s: %v", r.body, err)
	}
	if m.Process != "" && !m.Loaded {
		w.t.Errorf("%s was asked before it was well", m.Process)
	}
	return m.Process + m.Error.Message
}

func TestAgentsShareAnEnginesProcessOnlyWithTheSameAdapters(t *testing.T) {
	w, h := engineWorld(t, 3)
	one, two := w.as(deskWith("desk-2", 1)), w.as(deskWith("desk-3", 2))
	same := w.as(deskWith("desk-4", 1))
	const base, first, second = "llama-1+base", "llama-1+0100000000000000", "llama-1+0200000000000000"
	for i, step := range []struct {
		who  *world
		want string
	}{{w, base}, {one, first}, {two, second}, {same, first}, {w, base}} {
		if got := step.who.process(); got != step.want {
			t.Errorf("step %d: %q answered, want %q", i, got, step.want)
		}
	}
	want := []string{base + " for desk-1", first + " for desk-2", second + " for desk-3"}
	if !slices.Equal(h.began, want) || len(h.ended) != 0 {
		t.Errorf("started %q, want %q; ended %q", h.began, want, h.ended)
	}
}

func TestAnEngineIsToldToKeepNothing(t *testing.T) {
	w, _ := engineWorld(t, 1)
	r := w.do("POST", chatPath, engineAsk)
	var m struct{ Path, Got string }
	if err := json.Unmarshal([]byte(r.body), &m); err != nil || m.Path != chatPath {
		t.Fatalf("%d %s: %v", r.status, r.body, err)
	}
	var sent map[string]any
	if err := json.Unmarshal([]byte(m.Got), &sent); err != nil {
		t.Fatal(err)
	}
	if salt, _ := sent["cache_salt"].(string); sent["cache_prompt"] != false || !strings.HasSuffix(salt, "/desk-1") {
		t.Errorf("the engine got %s", m.Got)
	}
	for _, own := range []string{`"cache_prompt":true`, `"cache_salt":"x"`, `"lora":[]`, `"id_slot":1`} {
		if r := w.do("POST", chatPath, strings.Replace(engineAsk, "{", "{"+own+",", 1)); r.status != http.StatusForbidden {
			t.Errorf("with %s: %d %s", own, r.status, r.body)
		}
	}
	in := string(w.log.entries[0].Input)
	for _, part := range []string{`"engine_bundle":"07`, `"engine_model":"08`, `"engine_adapters":[]`} {
		if !strings.Contains(in, part) {
			t.Errorf("the log does not say %s: %s", part, in)
		}
	}
}

func TestAnIdleProcessGivesWayAndABusyOneDoesNot(t *testing.T) {
	w, h := engineWorld(t, 1)
	tuned := w.as(deskWith("desk-2", 1))
	if got := w.process(); got != "llama-1+base" {
		t.Fatal(got)
	}
	h.mu.Lock()
	h.hold = make(chan struct{})
	h.mu.Unlock()
	busy := make(chan string, 1)
	go func() { busy <- w.process() }()
	for deadline := time.Now().Add(5 * time.Second); len(w.log.kinds()) < 3 && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond) // until the second call is on its way
	}
	waits := make(chan string, 1)
	go func() { waits <- tuned.process() }()
	select {
	case got := <-waits:
		t.Fatalf("answered beside a busy process: %s", got)
	case <-time.After(100 * time.Millisecond):
	}
	close(h.hold)
	if a, b := <-busy, <-waits; a != "llama-1+base" || b != "llama-1+0100000000000000" {
		t.Errorf("%q, then %q", a, b)
	}
	if want := []string{"llama-1+base"}; !slices.Equal(h.ended, want) {
		t.Errorf("ended %q, want %q", h.ended, want)
	}
}

func TestAnEngineThatIsNotTheAgentsIsNotAsked(t *testing.T) {
	w, h := engineWorld(t, 1)
	other := deskWith("desk-2", 0)
	other.Engine.Bundle = [32]byte{9}
	unpinned, wrong := deskWith("desk-3", 0), deskWith("desk-4", 0)
	unpinned.Engine, wrong.Engine.Name = nil, "vllm"
	for name, a := range map[string]gateway.Agent{"that names no engine": unpinned, "that names another": wrong} {
		if err := w.gw.Check(a); err == nil {
			t.Errorf("an agent %s has a link", name)
		}
	}
	// The permit says which bundle may answer, and the agent's says another.
	if got := w.as(other).process(); !strings.Contains(got, "engine_bundle") {
		t.Errorf("denied with %q", got)
	}
	w.gw.OfferEngine("llama", gateway.EngineOffer{Instance: "llama-2", Bundle: [32]byte{9}, Processes: 1})
	if got := w.process(); !strings.Contains(got, "The model did not answer") {
		t.Errorf("another bundle is deployed: %q", got)
	}
	if len(h.began) != 0 {
		t.Errorf("started %q", h.began)
	}
}

func TestAnEngineThatEndedIsStartedAgainAfterAWhile(t *testing.T) {
	w, h := engineWorld(t, 1)
	var later atomic.Int64
	w.cfg.Now = func() time.Time { return time.Unix(1_800_000_000+later.Load(), 0) }
	w.restart()
	h.gw = w.gw
	w.gw.OfferEngine("llama", gateway.EngineOffer{Instance: "llama-1", Bundle: [32]byte{7}, Health: "/health", Processes: 1})
	h.fails = errors.New("no room")
	if got := w.process(); !strings.Contains(got, "did not answer") {
		t.Fatal(got)
	}
	h.mu.Lock()
	h.fails = nil
	h.mu.Unlock()
	if got := w.process(); !strings.Contains(got, "did not answer") || len(h.began) != 0 {
		t.Errorf("at once: %q, started %q", got, h.began)
	}
	later.Add(3)
	if got := w.process(); got != "llama-1+base" {
		t.Errorf("later: %q", got)
	}
	h.Stop("llama-1", "llama-1+base") // it crashed
	later.Add(3)
	if got := w.process(); got != "llama-1+base" || len(h.began) != 2 {
		t.Errorf("after its end: %q, started %q", got, fmt.Sprint(h.began))
	}
}
