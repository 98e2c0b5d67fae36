package front

import (
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Limits of evidence for one client: each answer may cost a report.
const (
	evidencePerSecond = 20
	evidenceBurst     = 64
	// maxClients bounds how many clients are remembered.
	maxClients = 4096
)

// rates is a token bucket for each client.
type rates struct {
	now func() time.Time

	mu      sync.Mutex // guards what follows
	clients map[netip.Prefix]bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newRates(now func() time.Time) *rates {
	return &rates{now: now, clients: map[netip.Prefix]bucket{}}
}

// paced refuses a client that asks more often than is its share.
func (f *Front) paced(r *rates, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		if !r.allow(networkOf(req.RemoteAddr)) {
			w.Header().Set("Retry-After", "1")
			fail(w, http.StatusTooManyRequests, "too many requests from this address; try again")
			return
		}
		h(w, req)
	}
}

// allow takes one token of the client's, if it has one.
func (r *rates) allow(client netip.Prefix) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	b, known := r.clients[client]
	if !known {
		if len(r.clients) >= maxClients {
			r.forget(now)
		}
		b = bucket{evidenceBurst, now}
	}
	b.tokens = min(evidenceBurst, b.tokens+now.Sub(b.at).Seconds()*evidencePerSecond)
	b.at = now
	ok := b.tokens >= 1
	if ok {
		b.tokens--
	}
	r.clients[client] = b
	return ok
}

// forget drops the clients whose buckets are full again. If all are in use, a
// flood from thousands of addresses is on; it loses its memory, and the signer's
// own bounds hold.
func (r *rates) forget(now time.Time) {
	for c, b := range r.clients {
		if now.Sub(b.at).Seconds()*evidencePerSecond+b.tokens >= evidenceBurst {
			delete(r.clients, c)
		}
	}
	if len(r.clients) >= maxClients {
		clear(r.clients)
	}
}
