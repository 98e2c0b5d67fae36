package front

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"

	"omega/attest/atls"
)

// PeerA2A is where agents of other platforms speak to agents of this one:
// PeerA2A + AGENT. Only a platform that attested is answered, and the gateway
// decides.
const PeerA2A = "/peer/a2a/"

type connKey struct{}

// forward hands a peer's request to the gateway, on a link that is that peer's
// own: it is how the gateway knows which platform speaks.
func (p *Peers) forward(w http.ResponseWriter, r *http.Request) {
	conn, _ := r.Context().Value(connKey{}).(*peerConn)
	if conn == nil || p.Link == nil {
		fail(w, http.StatusNotFound, "no agent here takes messages of other platforms")
		return
	}
	way, err := conn.way(r.Context(), p.Link)
	if err != nil {
		p.Log.Warn("a peer's link to the gateway", "error", err)
		fail(w, http.StatusServiceUnavailable, "the gateway takes no messages now; try again")
		return
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(requestTimeout))
	proxy := &httputil.ReverseProxy{
		Transport: way,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", "gateway", "gateway"
		},
		FlushInterval: -1, // a conversation's events must not wait for each other
		ErrorLog:      log.New(io.Discard, "", 0),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			fail(w, http.StatusBadGateway, "the gateway does not answer")
		},
	}
	proxy.ServeHTTP(&steady{ResponseWriter: w, control: control}, r)
}

// steady is an answer that may take long, but whose reader may not stop.
type steady struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (s *steady) Write(b []byte) (int, error) {
	_ = s.control.SetWriteDeadline(time.Now().Add(requestTimeout))
	return s.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (s *steady) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// gatewayLink is one peer's way to the gateway.
type gatewayLink struct {
	mu     sync.Mutex // guards what follows
	client *http.ClientConn
	ended  bool
}

// way opens the link when it is first needed, and again when it has ended.
func (c *peerConn) way(ctx context.Context, link func(context.Context, *atls.Peer) (net.Conn, error)) (http.RoundTripper, error) {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	switch {
	case c.link.ended:
		return nil, errors.New("the peer has gone")
	case c.link.client != nil && c.link.client.Err() == nil:
		return c.link.client, nil
	}
	conn, err := link(ctx, c.peer)
	if err != nil {
		return nil, err
	}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		Protocols: &protocols, DisableCompression: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil },
	}
	c.link.client, err = transport.NewClientConn(ctx, "http", "gateway:80")
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c.link.client, nil
}

// leave ends the link with the connection.
func (l *gatewayLink) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	if l.client != nil {
		_ = l.client.Close()
	}
}
