package gateway

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"omega/policy"
)

// EnginePin is the inference engine that an agent's bundle names, and what the
// engine applies for this agent.
type EnginePin struct {
	Name     string   // of the policy's engine
	Bundle   [32]byte // what must run there
	Model    [32]byte // verity root of the model that it must have
	Adapters [][32]byte
	// Set stands for the adapters and who signed them; zero: none.
	Set [32]byte
}

// EngineOffer is an admitted engine, which is started when it is asked.
type EngineOffer struct {
	Instance  string
	Bundle    [32]byte
	Health    string // path that answers with 2xx once the model is loaded; empty: it is not asked
	Processes int    // at most at once
}

// engines are the processes of inference engines. Each has one set of adapters
// from its start to its end: agents share one only if their sets are the same, and
// nothing in a request can choose another.
type engines struct {
	mu      sync.Mutex // guards what follows
	offers  map[string]EngineOffer
	procs   map[string]*engineProcess // by instance
	started map[string]time.Time      // the last try, by instance
	changed chan struct{}             // closed when a process may have become free
}

// engineProcess is one of them.
type engineProcess struct {
	offer    EngineOffer
	instance string
	ready    chan struct{} // closed once it answers, or err says why not
	err      error
	users    int // requests on their way
	last     time.Time
}

var (
	errEngineOther   = errors.New("another bundle than the agent's names is deployed as its engine")
	errEngineBusy    = errors.New("all processes of the engine are busy for agents with other adapters")
	errEngineMissing = errors.New("the bundle names no engine for it")
)

// engineLoad is how long an engine may take to load its model. Who asked first
// may give up before.
const engineLoad = 10 * time.Minute

// enginePoll is how often an engine that loads is asked whether it is well.
const enginePoll = 100 * time.Millisecond

// OfferEngine says that an engine was admitted under this name of the policy.
func (g *Gateway) OfferEngine(name string, o EngineOffer) {
	e := &g.engines
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.offers == nil {
		e.offers, e.procs, e.started = map[string]EngineOffer{}, map[string]*engineProcess{}, map[string]time.Time{}
		e.changed = make(chan struct{})
	}
	for instance, p := range e.procs {
		if p.offer.Instance == e.offers[name].Instance {
			delete(e.procs, instance) // sandboxd has ended it with its offer
		}
	}
	e.offers[name] = o
}

// checkEngine says whether the bundle names the engine behind a model.
func (a *Agent) checkEngine(m policy.Model) error {
	if m.Engine != "" && (a.Engine == nil || a.Engine.Name != m.Engine) {
		return fmt.Errorf("model %q of engine %q: %w", m.Name, m.Engine, errEngineMissing)
	}
	return nil
}

// engineInstance names the process for a set of adapters.
func engineInstance(o EngineOffer, p *EnginePin) string {
	if p.Set == ([32]byte{}) {
		return instanceOf(o.Instance, "base")
	}
	return instanceOf(o.Instance, hex.EncodeToString(p.Set[:8]))
}

// engine returns the instance whose process answers this agent, started if need
// be. release must be called once the answer is through.
func (g *Gateway) engine(ctx context.Context, agent Agent) (instance string, release func(), err error) {
	for {
		p, wait, err := g.engineProcess(agent)
		if err != nil {
			return "", nil, err
		}
		if p == nil {
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return "", nil, errors.Join(errEngineBusy, ctx.Err())
			}
		}
		release = sync.OnceFunc(func() { g.engines.leave(p) })
		select {
		case <-p.ready:
			err = p.err
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			release()
			return "", nil, fmt.Errorf("engine %s: %w", agent.Engine.Name, err)
		}
		return p.instance, release, nil
	}
}

// engineProcess takes the agent's process, or begins to start it, or says what to
// wait for.
func (g *Gateway) engineProcess(agent Agent) (*engineProcess, <-chan struct{}, error) {
	e, pin := &g.engines, agent.Engine
	e.mu.Lock()
	defer e.mu.Unlock()
	o, ok := e.offers[pin.Name]
	switch {
	case !ok || g.cfg.Starter == nil:
		return nil, nil, fmt.Errorf("%s: %w", pin.Name, errNotOffered)
	case o.Bundle != pin.Bundle:
		return nil, nil, fmt.Errorf("%s: %w", pin.Name, errEngineOther)
	}
	instance := engineInstance(o, pin)
	p := e.procs[instance]
	if p != nil && p.gone(g) {
		delete(e.procs, instance)
		p = nil
	}
	if p == nil {
		if g.cfg.Now().Sub(e.started[instance]) < startPause {
			return nil, nil, fmt.Errorf("%s: %w", pin.Name, errResting)
		}
		if !e.room(g, o) {
			return nil, e.changed, nil
		}
		p = &engineProcess{offer: o, instance: instance, ready: make(chan struct{})}
		e.procs[instance], e.started[instance] = p, g.cfg.Now()
		go g.startEngine(p, agent.Instance)
	}
	p.users++
	return p, nil, nil
}

// gone reports a process that answered once and has ended, or never came up.
func (p *engineProcess) gone(g *Gateway) bool {
	select {
	case <-p.ready:
		return p.err != nil || !g.Serves(p.instance)
	default:
		return false
	}
}

// room makes sure that one more process of the engine may run, at the cost of the
// one that nobody has asked for longest. The lock is held.
func (e *engines) room(g *Gateway, o EngineOffer) bool {
	n := 0
	var idle *engineProcess
	for _, p := range e.procs {
		if p.offer.Instance != o.Instance || p.gone(g) {
			continue
		}
		n++
		if p.users == 0 && (idle == nil || p.last.Before(idle.last)) {
			idle = p
		}
	}
	if n < max(o.Processes, 1) {
		return true
	}
	if idle == nil {
		return false
	}
	delete(e.procs, idle.instance)
	delete(e.started, idle.instance) // its end was wanted
	g.cfg.Starter.Stop(o.Instance, idle.instance)
	return true
}

func (e *engines) leave(p *engineProcess) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p.users--
	p.last = time.Now()
	if p.users == 0 {
		close(e.changed)
		e.changed = make(chan struct{})
	}
}

// startEngine has the process started and waits until its model is loaded. It
// goes on when the agent that asked first hangs up.
func (g *Gateway) startEngine(p *engineProcess, agent string) {
	ctx, cancel := context.WithTimeout(context.Background(), engineLoad)
	defer cancel()
	defer close(p.ready)
	if p.err = g.cfg.Starter.StartEngine(ctx, p.offer.Instance, p.instance, agent); p.err == nil {
		p.err = g.loaded(ctx, p)
	}
	if p.err != nil {
		g.cfg.Starter.Stop(p.offer.Instance, p.instance)
	}
}

// loaded waits until the engine is well.
func (g *Gateway) loaded(ctx context.Context, p *engineProcess) error {
	if p.offer.Health == "" {
		return nil
	}
	seen := false
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+p.offer.Health, nil)
		if err != nil {
			return err
		}
		resp, err := g.deliver(ctx, p.instance, req)
		switch {
		case errors.Is(err, errNoDoor) && !seen: // its links are served in a moment
		case err != nil:
			return err
		default:
			seen = true
			_ = resp.Body.Close()
			if resp.StatusCode/100 == 2 {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("its model did not load: %w", context.Cause(ctx))
		case <-time.After(enginePoll):
		}
	}
}

// askEngine sends the request to the agent's engine on this platform.
func (q *ask) askEngine(ctx context.Context, req *http.Request) (*http.Response, error) {
	instance, release, err := q.link.g.engine(ctx, q.link.agent)
	if err != nil {
		return nil, err
	}
	resp, err := q.link.g.deliver(ctx, instance, req)
	if err != nil {
		release()
		return nil, err
	}
	resp.Body = &leaving{ReadCloser: resp.Body, leave: release}
	return resp, nil
}

// forEngine is the request as an engine gets it. What the engine keeps of one
// agent's prompt is never another's: engines of llama.cpp's family are told to keep
// nothing, vLLM to keep it under the agent's own salt. The salt is no secret: it is
// the name that no other instance of this boot has.
func (q *ask) forEngine() ([]byte, error) {
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(q.text, &fields); err != nil { // written by this gateway
		return nil, err
	}
	salt, err := json.Marshal(hex.EncodeToString(q.link.g.cfg.Boot[:]) + "/" + q.link.agent.Instance)
	if err != nil {
		return nil, err
	}
	fields["cache_prompt"], fields["cache_salt"] = json.RawMessage("false"), salt
	return json.Marshal(fields)
}

// withEngine adds to what is decided and logged which engine answers.
func (q *ask) withEngine(args json.RawMessage) (json.RawMessage, error) {
	pin := q.link.agent.Engine
	if q.model.Engine == "" {
		return args, nil
	}
	fields := map[string]any{}
	if err := json.Unmarshal(args, &fields); err != nil {
		return nil, err
	}
	adapters := []string{}
	for _, a := range pin.Adapters {
		adapters = append(adapters, hex.EncodeToString(a[:]))
	}
	fields["engine_bundle"], fields["engine_model"] = hex.EncodeToString(pin.Bundle[:]), hex.EncodeToString(pin.Model[:])
	fields["engine_adapters"] = adapters
	return json.Marshal(fields)
}
