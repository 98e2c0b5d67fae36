package front

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Bounds of the listener: one client can hold a part of the connections, and an
// idle one nothing that somebody else needs.
const (
	maxConnections = 256
	maxPerClient   = 64
)

// acceptPause is the wait after a connection that could not be accepted.
const acceptPause = 50 * time.Millisecond

// evictAfter is how long a connection without a request is left alone where all
// places are taken.
const evictAfter = 500 * time.Millisecond

// limited is a listener with at most max connections open, and perClient from
// one client. Where all are taken, the one that has waited longest without a
// request gives way.
type limited struct {
	net.Listener
	max, perClient int

	mu    sync.Mutex // guards what follows
	freed *sync.Cond
	open  map[*limitedConn]struct{}
	count map[netip.Prefix]int
}

func limit(l net.Listener, maximum, perClient int) *limited {
	out := &limited{Listener: l, max: maximum, perClient: perClient, open: map[*limitedConn]struct{}{}, count: map[netip.Prefix]int{}}
	out.freed = sync.NewCond(&out.mu)
	return out
}

// Accept fails only once the listener is closed. Whatever else goes wrong (no
// memory, no descriptors) passes, and the server must outlive it.
func (l *limited) Accept() (net.Conn, error) {
	for {
		l.waitForPlace()
		c, err := l.Listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil, err
		case err != nil:
			time.Sleep(acceptPause)
		default:
			if kept := l.add(c); kept != nil {
				return kept, nil
			}
			_ = c.Close() // this client has its share
		}
	}
}

// waitForPlace returns when fewer than max connections are open.
func (l *limited) waitForPlace() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.open) >= l.max {
		if !l.evict() {
			wake := time.AfterFunc(evictAfter/2, l.freed.Broadcast)
			l.freed.Wait()
			wake.Stop()
		}
	}
}

// evict closes the connection that has waited longest without a request. The
// lock is held.
func (l *limited) evict() bool {
	var oldest *limitedConn
	for c := range l.open {
		if !c.waiting.IsZero() && (oldest == nil || c.waiting.Before(oldest.waiting)) {
			oldest = c
		}
	}
	if oldest == nil || time.Since(oldest.waiting) < evictAfter {
		return false
	}
	l.drop(oldest)
	_ = oldest.Conn.Close()
	return true
}

func (l *limited) add(c net.Conn) net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	client := networkOf(c.RemoteAddr().String())
	if l.count[client] >= l.perClient {
		return nil
	}
	kept := &limitedConn{Conn: c, from: l, client: client, waiting: time.Now()}
	l.open[kept] = struct{}{}
	l.count[client]++
	return kept
}

// drop forgets a connection, once. The lock is held.
func (l *limited) drop(c *limitedConn) {
	if _, ok := l.open[c]; !ok {
		return
	}
	delete(l.open, c)
	if l.count[c.client]--; l.count[c.client] == 0 {
		delete(l.count, c.client)
	}
	l.freed.Broadcast()
}

// state is the server's ConnState hook: it says which connections wait.
func (l *limited) state(c net.Conn, s http.ConnState) {
	if u, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = u.NetConn()
	}
	kept, ok := c.(*limitedConn)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	kept.waiting = time.Time{}
	if s == http.StateIdle || s == http.StateNew {
		kept.waiting = time.Now()
	}
}

// limitedConn gives its place back when it is closed.
type limitedConn struct {
	net.Conn
	from    *limited
	client  netip.Prefix
	waiting time.Time // since when without a request; zero while one is answered
}

func (c *limitedConn) Close() error {
	c.from.mu.Lock()
	c.from.drop(c)
	c.from.mu.Unlock()
	return c.Conn.Close()
}

// networkOf is what counts as one client, from its address with port: an IPv4
// address, or the /64 that one IPv6 subscriber has at least. What is neither
// counts as one client together.
func networkOf(address string) netip.Prefix {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return netip.Prefix{}
	}
	addr, bits := ap.Addr().Unmap().WithZone(""), 64
	if addr.Is4() {
		bits = 32
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
