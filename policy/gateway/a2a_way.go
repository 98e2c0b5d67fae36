package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"omega/internal/labelhash"
	"omega/policy"
)

// errPairBusy keeps one agent from taking all of another's places.
var errPairBusy = errors.New("earlier requests of this agent to it take too long")

// a2aRequest is a decided request and what goes along with it.
type a2aRequest struct {
	call   *a2aCall
	labels []string // of who asks
	path   string   // of the card's address
}

// way is how a peer is reached.
type way interface {
	name() string   // of what is reached, now
	ledger() string // of whom the tasks are
	secrets() []policy.Secret
	// pinned returns the card that was pinned, if it still is what is offered.
	pinned(ctx context.Context) (*card, error)
	send(ctx context.Context, r a2aRequest) (*http.Response, error)
	// open takes an answer apart: the labels that came with it, and JSON-RPC.
	open(b []byte) (labels []string, message []byte, err error)
}

// way finds what a peer's name means now. That holds until leave is called.
func (p *peer) way(ctx context.Context) (w way, leave func(), err error) {
	leave = func() {}
	switch {
	case p.Agent != "":
		p.mu.Lock()
		last := p.to
		p.mu.Unlock()
		return p.link.g.local(ctx, p.Agent, last, "agent/"+p.link.agent.Instance, func(a Agent) bool { return p.pin.fits(a.Bundle, a.Keys) })
	case p.Attested:
		w, err = p.platform(ctx)
		return w, leave, err
	}
	return webWay{p}, leave, nil
}

// local is the way to an agent of this platform that receiver finds.
func (g *Gateway) local(ctx context.Context, name, last, sender string, meant func(Agent) bool) (way, func(), error) {
	agent, leave, err := g.receiver(ctx, name, last, sender, meant)
	if err != nil {
		return nil, nil, err
	}
	return g.localWay(agent), leave, nil
}

// receiver finds a running agent of a name that takes requests and is the one
// that is meant: the one of last time, or else the first by its instance. Of one
// with clean sessions it is the sandbox that whoever sends has alone, and nobody
// else gets until leave is called.
func (g *Gateway) receiver(ctx context.Context, name, last, sender string, meant func(Agent) bool) (a Agent, leave func(), err error) {
	if g.clean(name) {
		d, leave, err := g.enter(ctx, name, labelhash.Sum256("omega/session/a2a/v1", []byte(sender)), false)
		if err != nil {
			return Agent{}, nil, errors.Join(errNoPeer, err)
		}
		if !meant(d.agent) {
			leave()
			return Agent{}, nil, errOtherPeer
		}
		return d.agent, leave, nil
	}
	g.doors.mu.Lock()
	defer g.doors.mu.Unlock()
	var found []Agent
	some := false
	for _, d := range g.doors.open {
		if d.agent.Name != name {
			continue
		}
		some = true
		if meant(d.agent) {
			found = append(found, d.agent)
		}
	}
	slices.SortFunc(found, func(a, b Agent) int { return strings.Compare(a.Instance, b.Instance) })
	leave = func() {}
	for _, a := range found {
		if a.Instance == last {
			return a, leave, nil
		}
	}
	switch {
	case len(found) > 0:
		return found[0], leave, nil
	case some:
		return Agent{}, nil, errOtherPeer
	}
	return Agent{}, nil, errNoPeer
}

// localWay leads to an agent of this platform. What the agent has seen is that of
// one sandbox, also where the instance begins anew before the answer is there.
type localWay struct {
	g     *Gateway
	agent Agent
	seen  *state
}

func (g *Gateway) localWay(agent Agent) localWay {
	return localWay{g, agent, g.state(agent.Name, agent.Instance)}
}

func (w localWay) name() string             { return w.agent.Instance }
func (w localWay) ledger() string           { return "agent:" + w.agent.Instance }
func (w localWay) secrets() []policy.Secret { return nil }

// pinned is the card of the agent's own manifest.
func (w localWay) pinned(ctx context.Context) (*card, error) {
	if len(w.agent.Card) == 0 {
		return nil, errNoCard
	}
	pin, err := parseCard(w.agent.Card)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCard, err)
	}
	req, err := http.NewRequest(http.MethodGet, "http://agent/"+cardPath, nil)
	if err != nil {
		return nil, err
	}
	resp, err := w.g.deliver(ctx, w.agent.Instance, req)
	if err != nil {
		return nil, err
	}
	now, err := offeredCard(ctx, resp)
	if err == nil && now.digest != pin.digest {
		err = errCard
	}
	return pin, err
}

// send gives the receiver the labels of who asks before it gets the first byte.
func (w localWay) send(ctx context.Context, r a2aRequest) (*http.Response, error) {
	w.seen.mu.Lock()
	w.seen.Merge(r.labels...)
	w.seen.mu.Unlock()
	req, err := r.call.request(ctx, "http://agent"+r.path)
	if err != nil {
		return nil, err
	}
	return w.g.deliver(ctx, w.agent.Instance, req)
}

// open adds the receiver's labels, as they are when it has answered.
func (w localWay) open(b []byte) ([]string, []byte, error) {
	w.seen.mu.Lock()
	defer w.seen.mu.Unlock()
	return w.seen.Labels(), b, nil
}

// request is the HTTP request of a call, made anew.
func (c *a2aCall) request(ctx context.Context, to string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(c.body()))
	if err != nil {
		return nil, err
	}
	c.headers(req.Header)
	return req, nil
}

func (c *a2aCall) headers(h http.Header) {
	h.Set("Content-Type", "application/json")
	h.Set("Accept", "application/json")
	if c.method.stream {
		h.Set("Accept", "text/event-stream")
	}
	h.Set("User-Agent", "omega-gateway")
	if c.method.dialect == dialect10 {
		h.Set(headerA2A, string(dialect10))
	}
}

// webWay leads to an agent outside of any platform, over TLS.
type webWay struct{ peer *peer }

func (w webWay) name() string             { return w.peer.URL }
func (w webWay) ledger() string           { return "peer:" + w.peer.Name }
func (w webWay) secrets() []policy.Secret { return w.peer.Secrets }

func (w webWay) open(b []byte) ([]string, []byte, error) { return nil, b, nil }

// pinned asks for the card, of which the policy has the digest.
func (w webWay) pinned(ctx context.Context) (*card, error) {
	if w.peer.Card == "" {
		return nil, errNoCard
	}
	u, err := url.Parse(w.peer.URL)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.ResolveReference(&url.URL{Path: "/" + cardPath}).String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := w.do(req)
	if err != nil {
		return nil, err
	}
	c, err := offeredCard(ctx, resp)
	if err == nil && !c.isPin(w.peer.Card) {
		err = errCard
	}
	return c, err
}

// send goes to the policy's URL, whatever the card says.
func (w webWay) send(ctx context.Context, r a2aRequest) (*http.Response, error) {
	req, err := r.call.request(ctx, w.peer.URL)
	if err != nil {
		return nil, err
	}
	return w.do(req)
}

func (w webWay) do(req *http.Request) (*http.Response, error) {
	g := w.peer.link.g
	if err := g.addSecrets(req.Header, w.peer.Secrets); err != nil {
		return nil, err
	}
	return g.clients["peer "+w.peer.Name].Do(req)
}

// peerTLS is the TLS of a peer with a key of its own: that key, and no name and
// no authority, says who it is.
func peerTLS(key *policy.Key) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // VerifyConnection takes its place
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) > 0 {
				sum := sha256.Sum256(s.PeerCertificates[0].RawSubjectPublicKeyInfo)
				if hex.EncodeToString(sum[:]) == key.ID {
					return nil
				}
			}
			return errors.New("tls: the peer has another key than the policy names")
		},
	}
}

// addPeers makes the clients of the peers outside of any platform.
func (g *Gateway) addPeers() {
	for _, p := range g.cfg.Document.Peers {
		if p.Agent != "" || p.Attested {
			continue
		}
		g.addClient("peer "+p.Name, p.Private, true)
		if p.Key != nil {
			g.guards["peer "+p.Name].next.(*http.Transport).TLSClientConfig = peerTLS(p.Key)
		}
	}
}
