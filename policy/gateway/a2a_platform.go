package gateway

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"encoding/json"

	"omega/internal/strictjson"
	"omega/policy"
)

// Platform is another platform that has been appraised.
type Platform struct {
	Boot   [16]byte
	Policy [32]byte // digest of its measured policy
}

// PeerPath is where a platform takes messages of other platforms' agents for its
// own: PeerPath + AGENT, and below that "/card".
const PeerPath = "/peer/a2a/"

// VersionPeer is the version of what platforms say to each other.
const VersionPeer = "omega/peer/v1"

var (
	errNoPlatform = errors.New("its platform could not be reached, or is not one that this platform accepts")
	errBoundary   = errors.New("the other platform broke the protocol")
)

// peerAgent is an agent as its own platform, which is attested, says it is.
type peerAgent struct {
	Name     string   `json:"name"`
	Instance string   `json:"instance"`
	Bundle   string   `json:"bundle"` // hex
	Keys     []string `json:"keys"`   // of who signed it
}

func (a Agent) asPeer() peerAgent {
	return peerAgent{Name: a.Name, Instance: a.Instance, Bundle: hex.EncodeToString(a.Bundle[:]), Keys: append([]string{}, a.Keys...)}
}

func (a peerAgent) check() error {
	raw, err := hex.DecodeString(a.Bundle)
	if err != nil || len(raw) != 32 || a.Name == "" || a.Instance == "" || len(a.Name)+len(a.Instance) > 2*maxPeerID || len(a.Keys) > 64 {
		return fmt.Errorf("%w: an agent without a name, instance or bundle", errBoundary)
	}
	return nil
}

func (a peerAgent) fits(pin PeerPin) bool {
	raw, err := hex.DecodeString(a.Bundle)
	return err == nil && len(raw) == 32 && pin.fits([32]byte(raw), a.Keys)
}

// peerRequest is a decided request between platforms.
type peerRequest struct {
	Version string          `json:"version"`
	From    peerAgent       `json:"from"`
	Bundle  string          `json:"bundle,omitempty"` // of whom it is for, or
	Key     string          `json:"key,omitempty"`    // who signed that
	Labels  []string        `json:"labels"`
	Request json.RawMessage `json:"request"` // JSON-RPC
}

// peerAnswer is an answer between platforms, or an agent's card.
type peerAnswer struct {
	Version string          `json:"version"`
	From    peerAgent       `json:"from"`
	Labels  []string        `json:"labels"`
	Answer  json.RawMessage `json:"answer"`
}

// maxLabels bounds what comes with one message; policy.State keeps no more.
const maxLabels = 256

// boundary reads what another platform sent.
func boundary(b []byte, into any) error {
	limits := strictjson.Limits{MaxBytes: maxAnswer + maxLabels*maxLabel, MaxDepth: maxAnswerDepth}
	if err := strictjson.Decode(b, into, limits); err != nil {
		return fmt.Errorf("%w: %w", errBoundary, err)
	}
	return nil
}

func checkBoundary(version string, from peerAgent, labels []string) error {
	if version != VersionPeer || labels == nil || len(labels) > maxLabels {
		return fmt.Errorf("%w: version %.40q with %d labels", errBoundary, version, len(labels))
	}
	for _, l := range labels {
		if !labelForm(l) {
			return fmt.Errorf("%w: %.80q is no label", errBoundary, l)
		}
	}
	return from.check()
}

// platformWay leads to an agent of another platform: over attested TLS, under the
// policies of both.
type platformWay struct {
	peer *peer
	to   *url.URL
}

// platform is the way to a peer whose URL is that of an agent of a platform.
func (p *peer) platform(context.Context) (way, error) {
	u, err := url.Parse(p.URL)
	if err != nil || p.link.g.cfg.Attest == nil || !strings.HasPrefix(u.Path, PeerPath) {
		return nil, errNoPlatform
	}
	return platformWay{p, u}, nil
}

func (w platformWay) name() string             { return w.peer.URL }
func (w platformWay) ledger() string           { return "peer:" + w.peer.Name }
func (w platformWay) secrets() []policy.Secret { return nil }

// addPlatforms makes the clients of peers on other platforms. Every connection
// is attested anew, and is not kept for long.
func (g *Gateway) addPlatforms() {
	for _, p := range g.cfg.Document.Peers {
		if !p.Attested {
			continue
		}
		g.addClient("peer "+p.Name, p.Private, true)
		t := g.guards["peer "+p.Name].next.(*http.Transport)
		t.MaxConnsPerHost, t.MaxIdleConnsPerHost, t.ForceAttemptHTTP2 = maxStreams, maxStreams, false
		t.DialContext = func(ctx context.Context, _, address string) (net.Conn, error) {
			raw, err := g.dial(ctx, p.Private, address)
			if err != nil {
				return nil, err
			}
			conn, _, err := g.cfg.Attest(ctx, raw)
			if err != nil {
				return nil, errors.Join(errNoPlatform, err, raw.Close())
			}
			return conn, nil
		}
	}
}

// plain is an address of the peer within its attested connection.
func (w platformWay) plain(below string) string {
	host := w.to.Host
	if w.to.Port() == "" {
		host = net.JoinHostPort(w.to.Hostname(), "443")
	}
	return (&url.URL{Scheme: "http", Host: host, Path: w.to.Path + below}).String()
}

func (w platformWay) do(req *http.Request) (*http.Response, error) {
	return w.peer.link.g.clients["peer "+w.peer.Name].Do(req)
}

// pinned is the card in the manifest of the agent that runs there, which must be
// the one that is meant.
func (w platformWay) pinned(ctx context.Context) (*card, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.plain("/card"), nil)
	if err != nil {
		return nil, err
	}
	resp, err := w.do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: %w %d", errPeerSilent, errStatus, resp.StatusCode)
	}
	b, err := readAll(ctx, resp.Body, 2*maxCard)
	if err != nil {
		return nil, err
	}
	_, text, err := w.open(b)
	if err != nil {
		return nil, err
	}
	c, err := parseCard(text)
	if err == nil && w.peer.Card != "" && !c.isPin(w.peer.Card) {
		err = errCard
	}
	return c, err
}

// send wraps the request with who asks and what has influenced it.
func (w platformWay) send(ctx context.Context, r a2aRequest) (*http.Response, error) {
	out := peerRequest{Version: VersionPeer, From: r.call.link.agent.asPeer(), Key: w.peer.pin.Key, Labels: append([]string{}, r.labels...), Request: r.call.body()}
	if b := w.peer.pin.Bundle; b != [32]byte{} {
		out.Bundle = hex.EncodeToString(b[:])
	}
	b, err := strictjson.Canonical(out)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.plain(""), bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	r.call.headers(req.Header)
	return w.do(req)
}

func (w platformWay) open(b []byte) ([]string, []byte, error) {
	var a peerAnswer
	if err := boundary(b, &a); err != nil {
		return nil, nil, err
	}
	if err := checkBoundary(a.Version, a.From, a.Labels); err != nil {
		return nil, nil, err
	}
	if a.From.Name != w.agent() || !a.From.fits(w.peer.pin) {
		return nil, nil, errOtherPeer
	}
	return a.Labels, a.Answer, nil
}

// agent is the name that the peer has on its own platform.
func (w platformWay) agent() string { return strings.TrimPrefix(w.to.Path, PeerPath) }

// remotePeers are the policy's peers that an agent of another platform can be.
func (g *Gateway) remotePeers(from peerAgent) []string {
	var out []string
	for _, p := range g.cfg.Document.Peers {
		if u, err := url.Parse(p.URL); err == nil && p.Attested && u.Path == PeerPath+from.Name {
			out = append(out, p.Name)
		}
	}
	slices.Sort(out)
	return out
}
