package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

// Bounds of what an agent is asked, and of what it answers. The agent is hostile:
// it may answer slowly, without end, or with what is no HTTP.
const (
	// maxDeliveries bounds the requests to one agent at once; further ones wait.
	maxDeliveries = 16
	// maxAgentHeaders bounds the header of an answer.
	maxAgentHeaders = 32 << 10
	// streamWindow and connWindow bound what an agent can make the gateway hold
	// of answers that nobody has read yet (RFC 9113 section 5.2).
	streamWindow = 1 << 20
	connWindow   = 2 << 20
)

// errNoDoor reports an instance that takes no requests: it does not serve, does
// not run, or has closed its end.
var errNoDoor = errors.New("no such agent takes requests now")

// doors are the ways in to the agents that serve, by instance.
type doors struct {
	mu   sync.Mutex // guards open
	open map[string]*door
}

// maxFrame is what of a large message comes in one piece: each piece costs a read on
// this side and a write inside of the sandbox. The usual 16 KiB make 64 of a megabyte.
const maxFrame = 256 << 10

// door is the gateway's side of one inbound link.
type door struct {
	agent Agent
	conn  *http.ClientConn
	slots chan struct{}
}

// ServeInbound makes an agent reachable through its inbound link, until that is
// closed or ctx ends. The link is the agent's identity, as the other one is.
func (g *Gateway) ServeInbound(ctx context.Context, agent Agent, conn net.Conn) error {
	closed := make(chan struct{})
	own := &notifying{Conn: conn, done: sync.OnceFunc(func() { close(closed) })}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		Protocols:              &protocols,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxAgentHeaders,
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerStream:     streamWindow,
			MaxReceiveBufferPerConnection: connWindow,
			MaxReadFrameSize:              maxFrame,
			WriteByteTimeout:              bodyTime, // who does not read loses the link
		},
		DialContext: func(context.Context, string, string) (net.Conn, error) { return own, nil },
	}
	client, err := transport.NewClientConn(ctx, "http", "agent:80")
	if err != nil {
		return errors.Join(fmt.Errorf("inbound link of %s: %w", agent.Instance, err), own.Close())
	}
	d := &door{agent: agent, conn: client, slots: make(chan struct{}, maxDeliveries)}
	g.doors.put(d)
	defer g.doors.drop(d)
	select {
	case <-closed:
	case <-ctx.Done():
	}
	_ = client.Close()
	_ = own.Close()
	return ctx.Err()
}

// put opens a door; that of an earlier start of the instance gives way.
func (s *doors) put(d *door) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[string]*door{}
	}
	s.open[d.agent.Instance] = d
}

func (s *doors) drop(d *door) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[d.agent.Instance] == d {
		delete(s.open, d.agent.Instance)
	}
}

// of returns the door of an instance, nil where there is none.
func (s *doors) of(instance string) *door {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[instance]
}

// Serves says whether an instance takes requests now.
func (g *Gateway) Serves(instance string) bool { return g.doors.of(instance) != nil }

// named returns the door of the one instance of an agent that serves; nil if
// none does, or several.
func (s *doors) named(agent string) *door {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found *door
	for _, d := range s.open {
		if d.agent.Name != agent {
			continue
		}
		if found != nil {
			return nil
		}
		found = d
	}
	return found
}

// deliver sends a request to an agent's own server and returns the answer, whose
// body the caller reads within bounds of its own, and closes. It decides and
// enters nothing: who calls it has. ctx bounds the exchange, the body included.
func (g *Gateway) deliver(ctx context.Context, instance string, r *http.Request) (*http.Response, error) {
	d := g.doors.of(instance)
	if d == nil {
		return nil, errNoDoor
	}
	select {
	case d.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for agent %s: %w", instance, ctx.Err())
	}
	leave := sync.OnceFunc(func() { <-d.slots })
	r = r.Clone(ctx)
	r.URL.Scheme, r.URL.Host, r.Host = "http", "agent", "agent"
	resp, err := d.conn.RoundTrip(r)
	if err != nil {
		leave()
		return nil, fmt.Errorf("agent %s: %w", instance, err)
	}
	resp.Body = &leaving{ReadCloser: resp.Body, leave: leave}
	return resp, nil
}

// leaving is an answer's body that gives a place free when it is closed.
type leaving struct {
	io.ReadCloser
	leave func()
}

// Close closes the body. An answer that is not read to its end is called off.
func (l *leaving) Close() error {
	defer l.leave()
	return l.ReadCloser.Close()
}
