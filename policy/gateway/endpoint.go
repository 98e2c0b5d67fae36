package gateway

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"time"

	"omega/policy"
)

const (
	// freshFor is how long a server's tool list is believed.
	freshFor = 5 * time.Second
	// maxSessions bounds an agent's sessions with one server; the one that was
	// used longest ago ends when another begins.
	maxSessions = 32
	// maxAsked bounds what a server asked and its agent has not answered yet; the
	// oldest question gives way to a new one.
	maxAsked = 64
)

// endpoint is one MCP server as one agent sees it: what its bundle pins of it,
// what the server offered last, and the sessions with it.
type endpoint struct {
	policy.Server
	link   *link
	pins   map[string]pin
	client *http.Client
	stdio  *stdio         // of a server that is a bundle
	bundle *bundledServer // the same

	mu       sync.Mutex // guards what follows
	offered  map[string]pin
	fetched  time.Time
	base     *session            // for agents that open none
	newest   *session            // the same for agents of 2026-07-28
	sessions map[string]*session // by the id that the agent was given
	asked    map[string]question // open questions of the server, by the gateway's id
	wanted   map[string]string   // inputs that a result asked for: by call and key, the method
	states   map[[32]byte]bool   // request states that the server gave out
	next     int
}

// question is a request of a server that waits for the agent's answer.
type question struct {
	session *session
	id      []byte // the server's own
	method  string
	number  int // in the order of asking
}

func (l *link) newEndpoint(s policy.Server, pins map[string]pin) *endpoint {
	e := &endpoint{
		Server: s, link: l, pins: pins,
		sessions: map[string]*session{}, asked: map[string]question{},
		wanted: map[string]string{}, states: map[[32]byte]bool{},
	}
	e.connect()
	e.base, e.newest = e.newSession(rev2025, nil), e.newSession(rev2026, nil)
	return e
}

func (e *endpoint) newSession(prefer string, caps map[string]any) *session {
	return &session{endpoint: e, client: e.client, timeout: e.link.g.cfg.Timeout, prefer: prefer, caps: caps}
}

// open makes a session for an agent and gives it a name.
func (e *endpoint) open(revision string, caps map[string]any) string {
	id := rand.Text()
	s := e.newSession(revision, caps)
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.sessions) >= maxSessions {
		oldest := ""
		for id, s := range e.sessions {
			if oldest == "" || s.used.Before(e.sessions[oldest].used) {
				oldest = id
			}
		}
		delete(e.sessions, oldest)
	}
	s.used = e.link.g.cfg.Now()
	e.sessions[id] = s
	return id
}

// session finds the one that a request belongs to. The newest revision has
// none, and an agent of an older one may do without.
func (e *endpoint) session(id, revision string) (*session, *rpcError) {
	if revision == rev2026 {
		return e.newest, nil
	}
	if id == "" {
		return e.base, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.sessions[id]
	if s == nil {
		return nil, rpcErrorf(http.StatusNotFound, codeInvalid, "no such session; initialize anew")
	}
	s.used = e.link.g.cfg.Now()
	return s, nil
}

// end forgets a session; the server hears of it as far as it listens.
func (e *endpoint) end(ctx context.Context, id string) bool {
	e.mu.Lock()
	s := e.sessions[id]
	delete(e.sessions, id)
	for key, q := range e.asked {
		if q.session == s {
			delete(e.asked, key)
		}
	}
	e.mu.Unlock()
	if s == nil {
		return false
	}
	s.end(ctx)
	return true
}

// ask keeps a question of the server and names it for the agent.
func (e *endpoint) ask(q question) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.asked) >= maxAsked {
		oldest := ""
		for id, q := range e.asked {
			if oldest == "" || q.number < e.asked[oldest].number {
				oldest = id
			}
		}
		delete(e.asked, oldest)
	}
	e.next++
	q.number = e.next
	id := fmt.Sprintf("omega-%d", e.next)
	e.asked[id] = q
	return id
}

// answered takes a question away: it is answered once.
func (e *endpoint) answered(id string) (question, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	q, ok := e.asked[id]
	delete(e.asked, id)
	return q, ok
}

// want remembers what a result of 2026-07-28 asked for, so that nothing else
// goes out as an answer to it.
func (e *endpoint) want(call string, methods map[string]string, state string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.wanted) > maxAsked {
		clear(e.wanted)
	}
	if len(e.states) > maxAsked {
		clear(e.states)
	}
	for key, method := range methods {
		e.wanted[call+"\x00"+key] = method
	}
	if state != "" {
		e.states[sha256.Sum256([]byte(state))] = true
	}
}

func (e *endpoint) wants(call, key string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.wanted[call+"\x00"+key]
}

func (e *endpoint) gave(state string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.states[sha256.Sum256([]byte(state))]
}

// tools returns what the server offers now, or offered a moment ago.
func (e *endpoint) tools(ctx context.Context, s *session, anew bool) (map[string]pin, error) {
	now := e.link.g.cfg.Now
	e.mu.Lock()
	fresh := e.offered != nil && now().Sub(e.fetched).Abs() < freshFor
	offered := e.offered
	e.mu.Unlock()
	if fresh && !anew {
		return offered, nil
	}
	offered, err := s.fetchTools(ctx)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(offered, func(name string, _ pin) bool { _, pinned := e.pins[name]; return !pinned }) // a cache of what a server says must be small
	e.mu.Lock()
	e.offered, e.fetched = offered, now()
	e.mu.Unlock()
	return offered, nil
}
