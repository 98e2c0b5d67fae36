package gateway

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"omega/internal/strictjson"
	"omega/policy"
)

// ServePlatform takes what the agents of another platform send to agents here,
// until the connection is closed or ctx ends. The connection is the platform's
// identity: whoever handed it over has appraised it.
func (g *Gateway) ServePlatform(ctx context.Context, from Platform, conn net.Conn) error {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{
		Handler:        &platformLink{g: g, from: from},
		Protocols:      &protocols,
		HTTP2:          &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		MaxHeaderBytes: 32 << 10,
		ErrorLog:       slog.NewLogLogger(g.cfg.Log.Handler(), slog.LevelDebug),
		BaseContext:    func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	err := srv.Serve(newOnce(conn))
	_ = srv.Close()
	if errors.Is(err, io.EOF) || errors.Is(err, http.ErrServerClosed) {
		return ctx.Err()
	}
	return fmt.Errorf("link of a platform: %w", err)
}

// platformLink is another platform's way in.
type platformLink struct {
	g    *Gateway
	from Platform
}

// ServeHTTP routes by exact path: PeerPath + AGENT, and its card.
func (p *platformLink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
	w.Header().Set("Cache-Control", "no-store")
	name, tail, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, PeerPath), "/")
	rule, known := p.g.cfg.Document.Agent(name)
	switch {
	case !strings.HasPrefix(r.URL.Path, PeerPath) || !known || !receives(rule):
		replyError(w, http.StatusNotFound, "no_agent", "no agent of this name takes messages of other platforms")
	case r.Method == http.MethodGet && tail == "card":
		p.card(w, r, name)
	case r.Method == http.MethodPost && tail == "":
		p.receive(w, r, rule)
	default:
		replyError(w, http.StatusMethodNotAllowed, "method_not_allowed", "messages are sent with POST")
	}
}

// receives says whether any rule of an agent takes messages of other platforms.
func receives(rule policy.AgentRule) bool {
	for _, p := range rule.Permits {
		if p.Action == policy.ActionReceive {
			return true
		}
	}
	return false
}

// card gives out an agent's pinned card, and says whose it is.
func (p *platformLink) card(w http.ResponseWriter, r *http.Request, name string) {
	agent, leave, err := p.g.receiver(r.Context(), name, "", "card", func(Agent) bool { return true })
	if err == nil {
		defer leave()
		_, err = p.g.localWay(agent).pinned(r.Context())
	}
	if err != nil {
		replyError(w, http.StatusServiceUnavailable, "no_agent", outwardPeer(err))
		return
	}
	reply(w, http.StatusOK, peerAnswer{Version: VersionPeer, From: agent.asPeer(), Labels: []string{}, Answer: agent.Card})
}

// receive decides a request of an agent elsewhere, and carries it out here.
func (p *platformLink) receive(w http.ResponseWriter, r *http.Request, rule policy.AgentRule) {
	req, agent, leave, err := p.read(r, rule)
	if err != nil {
		replyError(w, http.StatusBadRequest, "not_received", outwardPeer(err))
		return
	}
	defer leave()
	l := &link{g: p.g, agent: agent, rule: rule, state: p.g.state(agent.Name, agent.Instance)}
	ctx, tab := l.holding(r.Context())
	defer tab.close()
	c := &a2aCall{
		link: l, out: &outlet{w: w, timeout: p.g.cfg.Timeout},
		pair: hex.EncodeToString(p.from.Boot[:]) + "/" + req.From.Instance,
		seal: func(labels []string, answer []byte) ([]byte, error) {
			return strictjson.Canonical(peerAnswer{Version: VersionPeer, From: agent.asPeer(), Labels: append([]string{}, labels...), Answer: answer})
		},
	}
	fault := c.parse(req.Request, "")
	if fault == nil {
		fault = p.carry(ctx, c, req)
	} else if err := l.recordRefusal(ctx, policy.ActionReceive, req.From.Name, fault.Message); err != nil {
		fault = c.unrecorded(err)
	}
	if fault != nil {
		c.finish(fault)
	}
}

// read takes a request apart and finds whom it is for.
func (p *platformLink) read(r *http.Request, rule policy.AgentRule) (*peerRequest, Agent, func(), error) {
	body, err := readBody(r, maxMessage+maxLabels*maxLabel)
	if err != nil {
		return nil, Agent{}, nil, err
	}
	var req peerRequest
	if err := boundary(body, &req); err != nil {
		return nil, Agent{}, nil, err
	}
	if err := checkBoundary(req.Version, req.From, req.Labels); err != nil {
		return nil, Agent{}, nil, err
	}
	if err := p.mayStart(r.Context(), rule, req.From); err != nil {
		return nil, Agent{}, nil, err
	}
	pin := PeerPin{Name: rule.Name, Key: req.Key}
	if raw, err := hex.DecodeString(req.Bundle); err == nil && len(raw) == 32 {
		pin.Bundle = [32]byte(raw)
	}
	agent, leave, err := p.g.receiver(r.Context(), rule.Name, "", "platform/"+hex.EncodeToString(p.from.Boot[:])+"/"+req.From.Instance, func(a Agent) bool { return pin.fits(a.Bundle, a.Keys) })
	return &req, agent, leave, err
}

// mayStart refuses whoever the policy lets send nothing, before a sandbox is
// started for its messages alone.
func (p *platformLink) mayStart(ctx context.Context, rule policy.AgentRule, from peerAgent) error {
	if !p.g.clean(rule.Name) {
		return nil // none is
	}
	offer, err := p.g.offered(rule.Name)
	if err != nil {
		return errors.Join(errNoPeer, err)
	}
	l := &link{g: p.g, agent: Agent{Name: rule.Name, Instance: offer}, rule: rule}
	if _, err := l.knows(from); err != nil && !errors.Is(err, errWhichPeer) { // the bundle may say which
		return errors.Join(err, l.recordRefusal(ctx, policy.ActionReceive, from.Name, err.Error()))
	}
	return nil
}

// carry asks this platform's policy, as the sender's has been asked.
func (p *platformLink) carry(ctx context.Context, c *a2aCall, req *peerRequest) *rpcError {
	name, err := c.link.knows(req.From)
	if err != nil {
		if rec := c.link.recordRefusal(ctx, policy.ActionReceive, req.From.Name, err.Error()); rec != nil {
			return c.unrecorded(rec)
		}
		return rpcErrorf(http.StatusOK, codeInvalid, "%s", err)
	}
	in, fault := c.decide(ctx, policy.ActionReceive, name)
	if fault != nil {
		return fault
	}
	in.heard(policy.Outcome{Labels: req.Labels}) // before the receiver gets the first byte
	way := p.g.localWay(c.link.agent)
	pinned, err := way.pinned(ctx)
	if err != nil {
		return c.refused(ctx, in, err)
	}
	to := pinned.at[c.method.dialect]
	if to == nil {
		return c.refused(ctx, in, errCard)
	}
	return c.exchange(ctx, in, way, to.Path)
}

var (
	errNoSender  = errors.New("the policy lets no agent of that name send to this one")
	errWhichPeer = errors.New("several peers of the policy are agents of that name on other platforms; have the bundle say which key or bundle it means by each")
)

// knows finds the peer of the policy that an agent elsewhere is. Where this
// agent's bundle says whom it means by a peer, it must be that one. A connection
// says that a platform is attested and not at which address it is: where two peers
// could be meant, none has the rights of the other.
func (l *link) knows(from peerAgent) (string, error) {
	all := l.g.remotePeers(from)
	fit := slices.DeleteFunc(slices.Clone(all), func(name string) bool {
		return slices.ContainsFunc(l.agent.Peers, func(pin PeerPin) bool { return pin.Name == name && !from.fits(pin) })
	})
	switch {
	case !slices.ContainsFunc(all, func(name string) bool { return l.permits(policy.ActionReceive, name) }):
		return "", errNoSender
	case len(fit) == 0:
		return "", errOtherPeer
	case len(fit) > 1:
		return "", errWhichPeer
	case !l.permits(policy.ActionReceive, fit[0]):
		return "", errNoSender
	}
	return fit[0], nil
}
