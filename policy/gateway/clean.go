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
func sessionKey(who policy.Requester, subject, session string) (key [32]byte, once bool) {
	if session == "" || who.Reader == policy.Public {
		_, _ = rand.Read(key[:]) // never fails (crypto/rand)
		return key, true
	}
	return labelhash.Sum256("omega/session/v1", []byte(who.Name), []byte(subject), []byte(session)), false
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
	before := g.doors.of(p.instance)
	g.forget(p.instance)
	if p.before != nil {
		g.places.forget(p.before, g.cfg.Starter)
		p.before = nil
	}
	if p.err = g.cfg.Starter.Start(ctx, p.offer, p.instance); p.err != nil {
		g.places.forget(p, nil)
		return
	}
	for p.door = g.doors.of(p.instance); p.door == nil || p.door == before; p.door = g.doors.of(p.instance) {
		select {
		case <-ctx.Done():
			p.err = errors.Join(errNoDoor, ctx.Err())
			g.places.forget(p, g.cfg.Starter)
			return
		case <-time.After(doorPause):
		}
	}
}

// forget forgets what is known of an instance that begins anew, and of the
// servers that are its own: their processes ended with its link.
func (g *Gateway) forget(instance string) {
	g.mu.Lock()
	delete(g.states, instance)
	for _, server := range g.wards[instance] {
		delete(g.states, server)
	}
	delete(g.wards, instance)
	g.mu.Unlock()
	g.ledgers.forget(instance)
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
