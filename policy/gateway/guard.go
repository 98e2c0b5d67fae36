package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// breakAfter connections that fail in a row, an upstream is left alone for
	// restTime: whoever waits for a dead one holds a place for nothing.
	breakAfter = 5
	restTime   = 10 * time.Second
)

var errResting = errors.New("upstream failed repeatedly and is left alone for a while")

// guard is the circuit breaker of one upstream. Only what no agent can bring
// about counts: connections that fail, not answers that are slow or wrong.
type guard struct {
	next http.RoundTripper
	now  func() time.Time

	mu     sync.Mutex // guards what follows
	failed int
	until  time.Time
}

// RoundTrip refuses at once while the upstream rests; after that one request
// tries it for all.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if !g.enter() {
		return nil, errResting
	}
	// Before a connection is asked for and on one that stands, what goes wrong can be a request's own fault:
	// an agent must not be able to make an upstream rest for the others.
	var asked, stood atomic.Bool
	trace := &httptrace.ClientTrace{
		GetConn: func(string) { asked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { stood.Store(true) },
	}
	resp, err := g.next.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	switch {
	case stood.Load():
		g.leave(nil)
	case asked.Load():
		g.leave(err)
	default:
		g.leave(context.Canceled)
	}
	return resp, err
}

func (g *guard) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failed < breakAfter {
		return true
	}
	now := g.now()
	if now.Before(g.until) && g.until.Sub(now) <= restTime { // a clock that jumped ends the rest
		return false
	}
	g.until = now.Add(restTime) // this one tries
	return true
}

func (g *guard) leave(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case err == nil:
		g.failed = 0
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errAddress):
		g.until = time.Time{} // it has shown nothing, so the next one tries
	default:
		if g.failed++; g.failed == breakAfter {
			g.until = g.now().Add(restTime)
		}
	}
}

// resting says whether the upstream is left alone.
func (g *guard) resting() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.failed >= breakAfter && g.now().Before(g.until)
}
