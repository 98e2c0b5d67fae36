package front

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"omega/attest"
	"omega/attest/atls"
)

// PeerPath tells a peer what this platform found out about it.
const PeerPath = "/.well-known/omega/peer"

// Bounds of peers: each exchange costs a report of this platform.
const (
	maxExchanges = 16
	maxPeers     = 64
)

// Peers is how the front talks to other platforms: connections that choose
// atls.Protocol exchange evidence first, and then carry HTTP.
type Peers struct {
	Own       atls.Platform
	Appraiser *atls.Appraiser
	// Link opens a connection to the gateway for what a peer sends to agents here;
	// nil where there is no gateway.
	Link func(ctx context.Context, p *atls.Peer) (net.Conn, error)
	Log  *slog.Logger
}

type peerKey struct{}

// PeerOf is the platform that a request came from; nil where it came from
// somebody who did not attest.
func PeerOf(ctx context.Context) *atls.Peer {
	p, _ := ctx.Value(peerKey{}).(*atls.Peer)
	return p
}

// config is the TLS of a client that wants to be a peer; nil for all others.
func (p *Peers) config(hello *tls.ClientHelloInfo) *tls.Config {
	if p == nil || !slices.Contains(hello.SupportedProtos, atls.Protocol) {
		return nil
	}
	return atls.ServerConfig(p.Own, p.Appraiser)
}

// gate takes connections of peers out of the hands of the front's server.
type gate struct {
	peers   *Peers
	bounded *limited
	rates   *rates
	slots   chan struct{} // exchanges under way
	open    chan struct{} // peers that are connected
	server  *http.Server
	conns   *queue
}

// newGate starts a server for the connections of peers. It ends with ctx.
func newGate(ctx context.Context, p *Peers, bounded *limited, h http.Handler) *gate {
	g := &gate{
		peers: p, bounded: bounded, rates: newRates(time.Now), conns: newQueue(bounded.Addr()),
		slots: make(chan struct{}, maxExchanges), open: make(chan struct{}, maxPeers),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+PeerPath, tellPeer)
	mux.HandleFunc(PeerA2A, p.forward)
	mux.Handle("/", h)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	g.server = &http.Server{
		Handler: mux, Protocols: protocols, ReadHeaderTimeout: requestTimeout, IdleTimeout: 2 * time.Minute,
		WriteTimeout: 2 * requestTimeout, MaxHeaderBytes: maxHeaderBytes, ErrorLog: slog.NewLogLogger(p.Log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if pc, ok := c.(*peerConn); ok {
				return context.WithValue(context.WithValue(ctx, peerKey{}, pc.peer), connKey{}, pc)
			}
			return ctx
		},
	}
	return g
}

// take is for http.Server.TLSNextProto: it returns when the connection is over.
func (g *gate) take(_ *http.Server, conn *tls.Conn, _ http.Handler) {
	defer conn.Close()
	g.bounded.state(conn, http.StateActive)
	client := networkOf(conn.RemoteAddr().String())
	if !g.rates.allow(client) {
		return
	}
	select {
	case g.open <- struct{}{}:
		defer func() { <-g.open }()
	default:
		g.peers.Log.Warn("peers: too many are connected")
		return
	}
	peer, err := g.exchange(conn)
	if err != nil {
		g.peers.Log.Warn("a peer is refused", "error", err)
		return
	}
	g.peers.Log.Info("a peer is accepted", "verdict", peer.Result.Verdict, "boot", peer.Evidence.Boot.BootID.String())
	done := make(chan struct{})
	if g.conns.put(&peerConn{Conn: conn, peer: peer, closed: sync.OnceFunc(func() { close(done) })}) {
		<-done
	}
}

func (g *gate) exchange(conn *tls.Conn) (*atls.Peer, error) {
	select {
	case g.slots <- struct{}{}:
		defer func() { <-g.slots }()
	default:
		return nil, errors.New("too many exchange evidence already")
	}
	return atls.Exchange(context.Background(), conn, false, g.peers.Own, g.peers.Appraiser)
}

// tellPeer says what this platform found out about the one that asks.
func tellPeer(w http.ResponseWriter, r *http.Request) {
	p := PeerOf(r.Context())
	if p == nil {
		fail(w, http.StatusForbidden, "only a platform that attested may ask")
		return
	}
	body, err := json.Marshal(struct {
		Verdict string         `json:"verdict"`
		BootID  attest.Bytes16 `json:"boot_id"`
		Checks  []attest.Check `json:"checks"`
	}{p.Result.Verdict, p.Evidence.Boot.BootID, p.Result.Checks})
	if err != nil {
		fail(w, http.StatusInternalServerError, "the result cannot be written")
		return
	}
	write(w, "application/json", body)
}

// peerConn is a connection to a platform that was appraised.
type peerConn struct {
	net.Conn
	peer   *atls.Peer
	link   gatewayLink
	closed func()
}

func (c *peerConn) Close() error {
	defer c.closed()
	c.link.leave()
	return c.Conn.Close()
}

// queue is a listener for connections that are handed to it.
type queue struct {
	addr  net.Addr
	conns chan net.Conn
	ended chan struct{}
	end   func()
}

func newQueue(addr net.Addr) *queue {
	ended := make(chan struct{})
	return &queue{addr: addr, conns: make(chan net.Conn), ended: ended, end: sync.OnceFunc(func() { close(ended) })}
}

// put hands c over; false once the queue has ended.
func (q *queue) put(c net.Conn) bool {
	select {
	case q.conns <- c:
		return true
	case <-q.ended:
		return false
	}
}

// Accept implements net.Listener.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.ended:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (q *queue) Close() error {
	q.end()
	return nil
}

// Addr implements net.Listener.
func (q *queue) Addr() net.Addr { return q.addr }
