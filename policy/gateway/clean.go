package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"omega/internal/labelhash"
	"omega/policy"
)

const (
	// maxClean bounds the sandboxes of one agent that has one for each session.
	maxClean = 16
	// cleanIdle is how long a session keeps its sandbox without a request when
	// another needs the place.
	cleanIdle = 10 * time.Minute
	// cleanStart bounds the start of a sandbox for a session.
	cleanStart = 30 * time.Second
)

// errNoPlace refuses a session while all sandboxes of its agent are in use.
var errNoPlace = errors.New("all places for sessions of this agent are in use; try again later, or end a session by leaving it alone for ten minutes")

// places are the sandboxes of the agents whose policy gives each session its own.
// A place is used by one session after another, each with a sandbox that nobody
// used before and a state that knows nothing.
type places struct {
	mu sync.Mutex // guards what follows and each place
	of map[string][]*place
}

// place is one of them.
type place struct {
	instance string
	offer    string
	session  [32]byte // whose it is; zero: nobody's
	users    int
	used     time.Time
	before   *place        // whose sandbox has to end first
	ready    chan struct{} // closed when the sandbox stands, or cannot
	door     *door
	err      error
}

// clean says whether each session of an agent has a sandbox of its own.
func (g *Gateway) clean(name string) bool {
	rule, ok := g.cfg.Document.Agent(name)
	return ok && rule.Sessions == "clean"
}

// cleanAgent finds the agent with clean sessions that a caller means by its name
// or by the instance that was deployed.
func (g *Gateway) cleanAgent(called string) (name string, ok bool) {
	if g.clean(called) {
		return called, true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for name, offer := range g.offers {
		if offer == called && g.clean(name) {
			return name, true
		}
	}
	return "", false
}

// sessionKey names a session: no two callers have the same, whatever they call
// theirs. Without a name it is a session of its own, and so is one of callers
// that cannot be told apart.
func sessionKey(who policy.Requester, inv Invocation) (key [32]byte, once bool) {
	if inv.Session == "" || who.Reader == policy.Public {
		_, _ = rand.Read(key[:]) // never fails (crypto/rand)
		return key, true
	}
	return labelhash.Sum256("omega/session/v1", []byte(who.Name), []byte(inv.Subject), []byte(inv.Peer), []byte(inv.Session)), false
}

// enter returns the door of the sandbox that is a session's alone, which is
// started if it has none. leave gives it back; a session that happens once ends
// with it.
func (g *Gateway) enter(ctx context.Context, name string, key [32]byte, once bool) (d *door, leave func(), err error) {
	offer, err := g.offered(name)
	if err != nil {
		return nil, nil, err
	}
	p, begins, err := g.places.take(g.cfg.Now(), name, offer, key)
	if err != nil {
		return nil, nil, err
	}
	leave = sync.OnceFunc(func() { g.places.leave(p, g.cfg.Now(), once, g.cfg.Starter) })
	if begins {
		g.begin(ctx, name, p)
	}
	select {
	case <-p.ready:
	case <-ctx.Done():
		leave()
		return nil, nil, ctx.Err()
	}
	if p.err != nil {
		leave()
		return nil, nil, p.err
	}
	if g.doors.of(p.instance) != p.door { // it ended, and what it knew of the session with it
		g.places.forget(p, g.cfg.Starter)
		leave()
		return nil, nil, fmt.Errorf("the sandbox of this session has ended; its next request begins anew: %w", errNoDoor)
	}
	return p.door, leave, nil
}

// begin starts the sandbox of a session that has none: a new one, with a state
// that knows nothing of the session before.
func (g *Gateway) begin(ctx context.Context, name string, p *place) {
	defer close(p.ready)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanStart)
	defer cancel()
	if p.err = g.clear(ctx, p.before); p.err != nil {
		g.places.forget(p, nil)
		return
	}
	p.before = nil
	if p.err = g.cfg.Starter.Start(ctx, p.offer, p.instance); p.err != nil {
		g.places.forget(p, nil)
		return
	}
	if p.err = soon(ctx, func() bool { p.door = g.doors.of(p.instance); return p.door != nil }); p.err != nil {
		p.err = errors.Join(errNoDoor, p.err)
		g.places.forget(p, g.cfg.Starter)
	}
}

// clear ends what ran at a place, also of sessions before that could not be
// ended then. What is known of it is forgotten once it can do nothing more: until
// then its labels bind it.
func (g *Gateway) clear(ctx context.Context, old *place) error {
	for ; old != nil; old = old.before {
		if g.linked(old.instance) {
			g.cfg.Starter.Stop(old.offer, old.instance)
		}
		if err := soon(ctx, func() bool { return !g.linked(old.instance) }); err != nil {
			return fmt.Errorf("the sandbox of the session before still runs: %w", err)
		}
		g.forget(old.instance)
	}
	return nil
}

// soon waits until something is so.
func soon(ctx context.Context, is func() bool) error {
	for !is() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(doorPause):
		}
	}
	return nil
}

// linked says whether an instance, or a server that is its own, still has a way
// out or in.
func (g *Gateway) linked(instance string) bool {
	if g.doors.of(instance) != nil {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.links[instance] > 0 || slices.ContainsFunc(g.wards[instance], func(server string) bool { return g.links[server] > 0 })
}

// opened counts an instance's ways out, until closed is called.
func (g *Gateway) opened(instance string) (closed func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.links[instance]++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.links[instance]--; g.links[instance] == 0 {
			delete(g.links, instance)
		}
	}
}

// forget forgets what is known of an instance that begins anew, and of the
// servers that are its own: their processes ended with its link.
func (g *Gateway) forget(instance string) {
	g.mu.Lock()
	gone := append([]string{instance}, g.wards[instance]...)
	for _, i := range gone {
		delete(g.states, i)
	}
	delete(g.wards, instance)
	g.mu.Unlock()
	g.ledgers.forget(instance)
	g.approvals.forget(gone)
}

// ward remembers the instance of a server that is one agent's own.
func (g *Gateway) ward(agent, server string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.Contains(g.wards[agent], server) {
		g.wards[agent] = append(g.wards[agent], server)
	}
}

// take finds the place of a session, or a free one; begins says that its sandbox
// is still to be started.
func (s *places) take(now time.Time, name, offer string, key [32]byte) (p *place, begins bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var free *place
	at := len(s.of[name])
	for i, q := range s.of[name] {
		switch {
		case q.session == key:
			q.users++
			q.used = now
			return q, false, nil
		case q.users > 0 || q.session != [32]byte{} && now.Sub(q.used).Abs() < cleanIdle:
		case free == nil || q.used.Before(free.used):
			free, at = q, i
		}
	}
	if free == nil {
		if len(s.of[name]) >= maxClean {
			return nil, false, errNoPlace
		}
		if s.of == nil {
			s.of = map[string][]*place{}
		}
		s.of[name] = append(s.of[name], nil)
	}
	// The sandbox is named for what is deployed now, which may be another bundle than the one before.
	s.of[name][at] = &place{instance: instanceOf(offer, "s"+strconv.Itoa(at+1)), offer: offer, session: key, users: 1, used: now,
		before: free, ready: make(chan struct{})}
	return s.of[name][at], true, nil
}

// leave ends one use of a place.
func (s *places) leave(p *place, now time.Time, once bool, starter Starter) {
	s.mu.Lock()
	p.users--
	p.used = now
	s.mu.Unlock()
	if once {
		s.forget(p, starter)
	}
}

// forget makes a place nobody's, and has its sandbox ended where a starter is
// given.
func (s *places) forget(p *place, starter Starter) {
	s.mu.Lock()
	known := p.session != [32]byte{}
	p.session = [32]byte{}
	s.mu.Unlock()
	if known && starter != nil {
		starter.Stop(p.offer, p.instance)
	}
}
