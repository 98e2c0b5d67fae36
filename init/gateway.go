package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"omega/internal/wire"
	"omega/policy"
	"omega/policy/gateway"
)

// gatewayChild is the only way out of the sandboxes: sandboxd hands it one link
// for each, and the link is the agent's identity.
type gatewayChild struct {
	c       *child
	log     *wire.Client
	starter *starter
	dialer  *dialer

	mu sync.Mutex // guards what follows
	gw *gateway.Gateway
}

func runGateway(ctx context.Context, c *child) error {
	log, err := c.client("log")
	if err != nil {
		return err
	}
	g := &gatewayChild{c: c, log: log, starter: newStarter(), dialer: newDialer()}
	link := func(_ context.Context, req linkRequest, f []*os.File) (nothing, error) { return g.link(ctx, req, f) }
	platform := func(_ context.Context, req platformID, f *os.File) (nothing, error) { return g.platform(ctx, req, f) }
	return serveAll(ctx, c, map[string]map[string]wire.Handler{
		"pid1": {opStart: handle(g.start)},
		"front": {
			opPlatform: handleFile(platform), opDials: g.dialer.take, opDialed: handle(g.dialer.done),
			opMetrics: g.observed("metrics", metrics), opTraces: g.observed("traces", traces),
			opInvoke: handleBoth(g.invoke), opPending: handleBoth(g.pending), opApprove: handle(g.approve),
		},
		"sandboxd": {opLink: handleFiles(link), opOffer: handle(g.offer), opHealth: handle(g.health),
			opOrders: handle(g.starter.take), opOrdered: handle(g.starter.done)},
	})
}

func (g *gatewayChild) start(ctx context.Context, req gatewayStart) (nothing, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gw != nil {
		return nothing{}, errors.New("start: already started")
	}
	p, err := checkedPolicy(req.PolicyDigest)
	if err != nil {
		return nothing{}, err
	}
	roots, err := measuredRoots()
	if err != nil {
		return nothing{}, err
	}
	decider, err := policy.NewDecider(ctx, p.Wasm)
	if err != nil {
		return nothing{}, err
	}
	secrets, err := g.secrets(p.Document, roots, req.Dial)
	if err != nil {
		return nothing{}, err
	}
	g.gw, err = gateway.New(gateway.Config{
		Document:     p.Document,
		Decider:      decider,
		Recorder:     recorder{g.log},
		Roots:        roots,
		Dial:         req.Dial,
		Log:          g.c.log,
		PolicyDigest: p.Digest,
		Now:          time.Now,
		Boot:         req.BootID,
		Starter:      g.starter,
		Secret:       secrets.value,
		Attest:       g.dialer.attest,
	})
	return nothing{}, err
}

// measuredRoots are the certificate authorities in the image that upstream
// servers are verified against.
func measuredRoots() (*x509.CertPool, error) {
	pem, err := readBounded(rootsFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if len(pem) > 0 && !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate in it", rootsFile)
	}
	return pool, nil
}

// link begins to serve one sandbox, for as long as its link is open. A second
// descriptor is the inbound link of an agent that serves.
func (g *gatewayChild) link(life context.Context, req linkRequest, files []*os.File) (nothing, error) {
	conns, err := connections(files)
	if err != nil {
		return nothing{}, fmt.Errorf("link: %w", err)
	}
	g.mu.Lock()
	gw := g.gw
	g.mu.Unlock()
	if gw == nil {
		return nothing{}, errors.Join(errNotStarted, hangUp(conns))
	}
	agent := gateway.Agent{Instance: req.Instance, Name: req.Name, Bundle: req.Bundle, Identity: req.Identity, Models: req.Models,
		Peers: req.A2A.pins(), Keys: req.A2A.Keys, Card: req.A2A.Card, Engine: req.Engine.pin()}
	for _, t := range req.Tools {
		agent.Tools = append(agent.Tools, gateway.Tool{Server: t.Server, Descriptors: t.Descriptors})
	}
	if err := gw.Check(agent); err != nil {
		return nothing{}, errors.Join(err, hangUp(conns))
	}
	for i, serve := range []func(context.Context, gateway.Agent, net.Conn) error{gw.ServeLink, gw.ServeInbound}[:len(conns)] {
		go func() {
			if err := serve(life, agent, conns[i]); err != nil && life.Err() == nil {
				g.c.log.Warn("link", "instance", agent.Instance, "error", err)
			}
		}()
	}
	return nothing{}, nil
}

// connections takes over the one or two descriptors of a sandbox's links.
func connections(files []*os.File) (conns []net.Conn, err error) {
	if len(files) < 1 || len(files) > 2 {
		err = fmt.Errorf("%d descriptors", len(files))
	}
	for _, f := range files {
		if err == nil {
			var c net.Conn
			if c, err = net.FileConn(f); err == nil {
				conns = append(conns, c)
			}
		}
		_ = f.Close()
	}
	if err != nil {
		return nil, errors.Join(err, hangUp(conns))
	}
	return conns, nil
}

func hangUp(conns []net.Conn) (err error) {
	for _, c := range conns {
		err = errors.Join(err, c.Close())
	}
	return err
}
