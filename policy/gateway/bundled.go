package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"omega/policy"
)

// StdioPath is where the shim of a server's sandbox joins a request's body to the
// server's standard input and the answer's to its standard output.
const StdioPath = "/.omega/stdio"

// A Starter has sandboxes of admitted bundles started and ended. Start returns
// once the gateway serves the sandbox's link.
type Starter interface {
	Start(ctx context.Context, offer, instance string) error
	// StartEngine is Start of an engine, with the adapters of the agent's instance.
	StartEngine(ctx context.Context, offer, instance, agent string) error
	Stop(offer, instance string)
}

// errNotOffered reports a server or a session whose bundle nobody deployed.
var errNotOffered = errors.New("no bundle of it is deployed")

// Offer says that a bundle of this agent was admitted as that instance and is
// started when somebody needs it. A later one takes its place for what is
// started from then on.
func (g *Gateway) Offer(name, instance string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.offers[name] = instance
}

// offered is the admitted instance for an agent's name.
func (g *Gateway) offered(name string) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	instance, ok := g.offers[name]
	if !ok || g.cfg.Starter == nil {
		return "", fmt.Errorf("%s: %w", name, errNotOffered)
	}
	return instance, nil
}

// maxInstance bounds the names of instances (as in bundles and in runsc).
const maxInstance = 63

// own stands between an offer and whom its sandbox is for. No name of a bundle,
// and so none of a deployment, has it (bundle.ValidName): no other agent's
// instance can be called so.
const own = "+"

// instanceOf names the sandbox of an offer that is for one agent or session. A
// name that would be too long ends in a digest, and then in what none ends in
// that is short enough.
func instanceOf(offer, of string) string {
	name := offer + own + of
	if len(name) <= maxInstance {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	end := own + hex.EncodeToString(sum[:16]) + own
	return name[:maxInstance-len(end)] + end
}

// connect finds an endpoint's way to its server. One that is a bundle of this
// platform has a process of its own for this agent, since a server remembers what
// it was told, and an untrusted one would tell it to the next.
func (e *endpoint) connect() {
	l := e.link
	if e.Bundle == "" {
		e.client = l.g.clients["server "+e.Name]
		return
	}
	e.bundle = &bundledServer{link: l, server: e.Server}
	e.stdio = &stdio{
		open:   e.bundle.open,
		tab:    func() *tab { return &tab{room: &l.g.room, agent: l.agent.Instance} },
		before: e.bundle.told,
		after:  e.bundle.heard,
	}
	e.URL, e.client = "http://"+e.Name, &http.Client{Transport: e.stdio}
}

// endServers ends the processes that were for this link alone.
func (l *link) endServers() {
	for _, e := range l.servers {
		if e.stdio != nil {
			e.stdio.close()
		}
	}
}

// carried are the labels of the other side of a call, where that is an instance
// of this platform.
func (l *link) carried(in policy.Input) []string {
	name, _, _ := strings.Cut(in.Resource, "/")
	if e := l.servers[name]; e != nil && e.bundle != nil && strings.HasPrefix(in.Action, "mcp.") {
		return e.bundle.labels()
	}
	return nil
}

// bundledServer is one server's sandbox for one agent.
type bundledServer struct {
	link   *link
	server policy.Server

	mu       sync.Mutex // guards what follows
	instance string     // of the sandbox that was started last
}

// state is what the server's instance has seen; nil before one was started. It
// outlives a process: one that is started anew has the labels of the one before.
func (b *bundledServer) state() *state {
	b.mu.Lock()
	instance := b.instance
	b.mu.Unlock()
	if instance == "" {
		return nil
	}
	return b.link.g.state(b.server.Bundle, instance)
}

// told puts the agent's labels on the server, before a message reaches it, and
// heard the server's on the agent, before one of its messages does.
func (b *bundledServer) told() { carry(b.link.state, b.state()) }

func (b *bundledServer) heard() { carry(b.state(), b.link.state) }

// carry merges the labels of one instance into those of another.
func carry(from, to *state) {
	if from == nil || to == nil {
		return
	}
	from.mu.Lock()
	labels := from.Labels()
	from.mu.Unlock()
	to.mu.Lock()
	to.Merge(labels...)
	to.mu.Unlock()
}

// labels are those of the server's instance.
func (b *bundledServer) labels() []string {
	s := b.state()
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Labels()
}

// open has the sandbox started and joins the server's standard input and output.
func (b *bundledServer) open(ctx context.Context) (io.ReadWriteCloser, error) {
	g := b.link.g
	offer, err := g.offered(b.server.Bundle)
	if err != nil {
		return nil, err
	}
	instance := instanceOf(offer, b.link.agent.Instance)
	b.mu.Lock()
	b.instance = instance
	b.mu.Unlock()
	g.ward(b.link.agent.Instance, instance)
	if err := g.cfg.Starter.Start(ctx, offer, instance); err != nil {
		return nil, err
	}
	life, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	in, out := io.Pipe()
	e := &ends{in: out, cancel: cancel, stop: func() { g.cfg.Starter.Stop(offer, instance) }}
	req, err := http.NewRequestWithContext(life, http.MethodPost, "http://agent"+StdioPath, in)
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	late := time.AfterFunc(g.cfg.Timeout, func() { cancel(context.DeadlineExceeded) })
	resp, err := g.deliverSoon(life, instance, req)
	late.Stop()
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.Join(fmt.Errorf("%w %d", errStatus, resp.StatusCode), resp.Body.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the server's sandbox: %w", err), e.Close())
	}
	e.out = resp.Body
	return e, nil
}

// doorPause is how often it is looked whether a sandbox that was just started
// takes requests: its links are served by then, in goroutines of their own.
const doorPause = 5 * time.Millisecond

// deliverSoon is deliver to an instance that was just started.
func (g *Gateway) deliverSoon(ctx context.Context, instance string, r *http.Request) (*http.Response, error) {
	for {
		resp, err := g.deliver(ctx, instance, r)
		if !errors.Is(err, errNoDoor) {
			return resp, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), err)
		case <-time.After(doorPause):
		}
	}
}

// ends are the two ends of a server's standard input and output.
type ends struct {
	in     io.WriteCloser
	out    io.ReadCloser
	cancel context.CancelCauseFunc
	stop   func()
}

func (e *ends) Read(p []byte) (int, error)  { return e.out.Read(p) }
func (e *ends) Write(p []byte) (int, error) { return e.in.Write(p) }

// Close ends the server: by the end of its input, and its sandbox after that.
func (e *ends) Close() error {
	err := e.in.Close()
	e.cancel(errEnded)
	if e.out != nil {
		err = errors.Join(err, e.out.Close())
	}
	e.stop()
	return err
}
