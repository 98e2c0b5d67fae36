// Package gateway is the only way out of a sandbox. An agent's link carries
// HTTP/2; behind it stand the MCP servers and models that the policy names.
// Every call is parsed strictly, decided by the policy on the parsed form,
// entered into the provenance log, and only then sent, re-encoded from that same
// form. Nothing of what the agent wrote around a call (ids, metadata, client
// names, headers) goes out.
//
// The gateway holds no agent's secrets, resolves names itself, and trusts no
// upstream: answers are bounded, parsed and re-encoded as well. It does not
// inspect what a permitted tool or model says.
package gateway

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"omega/policy"
	"omega/policy/provenance"
)

// A Recorder keeps entries. It returns once the entry is in the log for good.
type Recorder interface {
	Record(ctx context.Context, e provenance.Entry) (index uint64, err error)
}

// A Submitter is a Recorder that can take an entry for good later: wait returns
// once it is. Entries come in behind those that were taken before.
type Submitter interface {
	Submit(ctx context.Context, e provenance.Entry) (wait func() (index uint64, err error), err error)
}

// A Decider answers one decision input; it denies whatever goes wrong.
type Decider interface {
	Decide(ctx context.Context, input []byte) policy.Decision
}

// Config is what a gateway needs. Dial, Timeout and Now may be left out.
type Config struct {
	Document     *policy.Document
	Decider      Decider
	Recorder     Recorder
	Roots        *x509.CertPool    // for upstream TLS
	Dial         map[string]string // "host:port" to "ip:port"; untrusted, TLS still checks the name
	Log          *slog.Logger
	PolicyDigest [32]byte
	Now          func() time.Time
	Timeout      time.Duration // of one upstream call; 0 means a minute
	// Attest turns a connection to another platform into one that both sides have
	// appraised; nil where this platform has no peers.
	Attest func(ctx context.Context, raw net.Conn) (net.Conn, Platform, error)
	// Boot is the boot id, which approvals name.
	Boot [16]byte
	// Secret gives the value of a secret that the policy names. It is asked for
	// each request, so it keeps what it fetched; nil has none. Its errors are told
	// to auditors.
	Secret func(name string) ([]byte, error)
	// Starter starts what is needed for one agent or session alone; nil: nothing is.
	Starter Starter
}

// Agent is who speaks on a link.
type Agent struct {
	Instance string
	Name     string
	Bundle   [32]byte
	Identity [32]byte
	Tools    []Tool
	Models   []string
	Peers    []PeerPin
	Keys     []string        // IDs of the keys that signed its bundle
	Card     json.RawMessage // the A2A agent card that its bundle pins, if it has one
	Engine   *EnginePin      // the inference engine that its bundle names, if it does
}

// Tool is what an agent's bundle pins of one MCP server: the JSON list of
// {"name", "description", "input_schema"}.
type Tool struct {
	Server      string
	Descriptors json.RawMessage
}

// Gateway serves the links of all agents of a platform.
type Gateway struct {
	cfg     Config
	clients map[string]*http.Client // by kind and name of the upstream
	guards  map[string]*guard       // the same, for those that have one

	observer  observer
	approvals approvals
	room      room
	doors     doors
	ledgers   ledgers
	store     store
	places    places
	engines   engines

	mu     sync.Mutex
	states map[string]*state   // by instance
	offers map[string]string   // admitted instances that are started when they are wanted, by agent
	wards  map[string][]string // instances of servers that are one agent's own, by its instance
	links  map[string]int      // ways out that are served, by instance
}

// state is what an instance did; it outlives a link.
type state struct {
	lost atomic.Bool // the log has lost an outcome

	mu sync.Mutex // held from the decision until its use is kept
	*policy.State
	answers map[answered]approvedCall // approvals of calls that have not been made again
}

// New checks the configuration and prepares the upstream connections.
func New(cfg Config) (*Gateway, error) {
	switch {
	case cfg.Document == nil || cfg.Decider == nil || cfg.Recorder == nil:
		return nil, errors.New("gateway: document, decider and recorder are needed")
	case cfg.Roots == nil:
		return nil, errors.New("gateway: no roots for upstream TLS")
	case cfg.Log == nil:
		return nil, errors.New("gateway: no log")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = time.Minute
	}
	g := &Gateway{cfg: cfg, clients: map[string]*http.Client{}, guards: map[string]*guard{}, states: map[string]*state{}, offers: map[string]string{}, wards: map[string][]string{}, links: map[string]int{}, room: room{agents: map[string]int{}}}
	_, _ = rand.Read(g.observer.key[:]) // never fails (crypto/rand)
	for _, s := range cfg.Document.Servers {
		if s.Bundle == "" {
			g.addClient("server "+s.Name, s.Private, true)
		}
	}
	for _, m := range cfg.Document.Models {
		if m.Engine == "" {
			g.addClient("model "+m.Name, m.Private, true)
		}
	}
	for _, w := range cfg.Document.Web {
		g.addClient("web "+w.Name, w.Private, false)
	}
	for _, d := range cfg.Document.Data {
		if d.URL != "" {
			g.addClient("data "+d.Name, d.Private, true)
		}
	}
	g.addPeers()
	g.addPlatforms()
	return g, nil
}

// Check says why an agent's link could not be served, so that an agent which
// would be deaf and mute is not started.
func (g *Gateway) Check(agent Agent) error {
	_, err := g.link(agent)
	return err
}

// ServeLink speaks HTTP/2 without TLS on one agent's link, until it is closed
// or ctx ends. The link is the agent's identity: nothing in a request can
// change it.
func (g *Gateway) ServeLink(ctx context.Context, agent Agent, conn net.Conn) error {
	defer g.opened(agent.Instance)()
	l, err := g.link(agent)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	listener := newOnce(conn)
	srv := &http.Server{
		Handler:        l,
		Protocols:      &protocols,
		HTTP2:          &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		MaxHeaderBytes: 32 << 10,
		// ReadTimeout is each request's own. The link itself may rest.
		ReadTimeout: bodyTime, ReadHeaderTimeout: -1, IdleTimeout: -1,
		ErrorLog:    slog.NewLogLogger(g.cfg.Log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	err = srv.Serve(listener)
	_ = srv.Close()
	l.wait()
	l.endServers()
	if errors.Is(err, io.EOF) || errors.Is(err, http.ErrServerClosed) {
		return ctx.Err()
	}
	return fmt.Errorf("link of %s: %w", agent.Instance, err)
}

// state returns what is kept of an instance.
func (g *Gateway) state(name, instance string) *state {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.states[instance]
	if s == nil {
		s = &state{State: policy.NewState(g.cfg.Document, name, instance)}
		g.states[instance] = s
	}
	return s
}

// once is a listener for the one connection that exists already.
type once struct {
	conn   net.Conn
	first  chan net.Conn
	closed chan struct{}
	close  sync.Once
}

func newOnce(conn net.Conn) *once {
	o := &once{conn: conn, first: make(chan net.Conn, 1), closed: make(chan struct{})}
	o.first <- &notifying{Conn: conn, done: o.shut}
	return o
}

func (o *once) shut() { o.close.Do(func() { close(o.closed) }) }

// Accept gives the connection, and io.EOF when that is over.
func (o *once) Accept() (net.Conn, error) {
	select {
	case c := <-o.first:
		return c, nil
	case <-o.closed:
		return nil, io.EOF
	}
}

// Close ends Accept. The server closes the connection itself.
func (o *once) Close() error { o.shut(); return nil }

// Addr is that of the connection.
func (o *once) Addr() net.Addr { return o.conn.LocalAddr() }

// notifying tells when the server is done with the connection.
type notifying struct {
	net.Conn
	done func()
}

func (n *notifying) Close() error {
	defer n.done()
	return n.Conn.Close()
}
