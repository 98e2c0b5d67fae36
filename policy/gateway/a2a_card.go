package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"omega/internal/strictjson"
)

// maxCard bounds an agent card.
const maxCard = 128 << 10

// card is an agent card that was pinned: its fields, and where it is spoken to in
// each dialect.
type card struct {
	fields map[string]json.RawMessage
	digest [32]byte // of the canonical card
	at     map[dialect]*url.URL
}

// cardFields are those of a card that the gateway reads itself.
type cardFields struct {
	// 0.3, section 5.5.
	URL       string `json:"url"`
	Preferred string `json:"preferredTransport"`
	Version   string `json:"protocolVersion"`
	More      []struct {
		URL       string `json:"url"`
		Transport string `json:"transport"`
	} `json:"additionalInterfaces"`
	// 1.0, section 4.4.6.
	Interfaces []struct {
		URL     string `json:"url"`
		Binding string `json:"protocolBinding"`
		Version string `json:"protocolVersion"`
	} `json:"supportedInterfaces"`
	Capabilities map[string]json.RawMessage `json:"capabilities"`
}

// bindingRPC is what both dialects call JSON-RPC over HTTP.
const bindingRPC = "JSONRPC"

// parseCard reads an agent card, which somebody signed or a peer offers.
func parseCard(b []byte) (*card, error) {
	limits := strictjson.Limits{MaxBytes: maxCard}
	c := &card{at: map[dialect]*url.URL{}}
	if err := strictjson.Decode(b, &c.fields, limits); err != nil {
		return nil, fmt.Errorf("agent card: %w", err)
	}
	limits.AllowUnknown = true
	var known cardFields
	if err := strictjson.Decode(b, &known, limits); err != nil {
		return nil, fmt.Errorf("agent card: %w", err)
	}
	text, err := strictjson.Canonical(c.fields)
	if err != nil {
		return nil, fmt.Errorf("agent card: %w", err)
	}
	c.digest = sha256.Sum256(text)
	for _, i := range known.Interfaces {
		if i.Binding == bindingRPC {
			c.spoken(dialect(i.Version), i.URL)
		}
	}
	if strings.HasPrefix(known.Version, string(dialect03)+".") || known.Version == string(dialect03) {
		if known.Preferred == "" || known.Preferred == bindingRPC {
			c.spoken(dialect03, known.URL)
		}
		for _, i := range known.More {
			if i.Transport == bindingRPC {
				c.spoken(dialect03, i.URL)
			}
		}
	}
	if len(c.at) == 0 {
		return nil, errors.New("agent card: it offers JSON-RPC in neither version 0.3 nor 1.0")
	}
	return c, nil
}

// spoken keeps the first address of a dialect that has a plain form.
func (c *card) spoken(d dialect, address string) {
	u, err := url.Parse(address)
	if err != nil || c.at[d] != nil || d != dialect03 && d != dialect10 || u.Opaque != "" || u.RawQuery != "" || u.RawPath != "" || strings.Contains(u.Path, "..") {
		return
	}
	if u.Path == "" {
		u.Path = "/"
	}
	if u.Path[0] == '/' {
		c.at[d] = u
	}
}

// shown is the card as an agent sees it: what leads past the gateway (addresses,
// credentials, push notifications) is taken out.
func (c *card) shown(at string, streams bool) map[string]any {
	out := map[string]any{}
	for name, v := range c.fields {
		out[name] = v
	}
	for _, name := range []string{"signatures", "security", "securitySchemes", "securityRequirements", "additionalInterfaces",
		"supportedInterfaces", "url", "preferredTransport", "protocolVersion", "supportsAuthenticatedExtendedCard"} {
		delete(out, name)
	}
	if c.at[dialect03] != nil {
		out["url"], out["preferredTransport"], out["protocolVersion"] = at, bindingRPC, "0.3.0"
	}
	if c.at[dialect10] != nil {
		list := []any{map[string]any{"url": at, "protocolBinding": bindingRPC, "protocolVersion": dialect10}}
		if c.at[dialect03] != nil {
			list = append(list, map[string]any{"url": at, "protocolBinding": bindingRPC, "protocolVersion": dialect03})
		}
		out["supportedInterfaces"] = list
	}
	capabilities := map[string]any{"pushNotifications": false}
	var given map[string]json.RawMessage
	if json.Unmarshal(c.fields["capabilities"], &given) == nil {
		for _, name := range []string{"streaming", "stateTransitionHistory", "extensions"} {
			if v, ok := given[name]; ok {
				capabilities[name] = v
			}
		}
	}
	if !streams {
		capabilities["streaming"] = false
	}
	out["capabilities"] = capabilities
	return out
}

// Why a peer is not spoken to.
var (
	errNoPeer     = errors.New("no agent that is meant by this name runs here")
	errOtherPeer  = errors.New("what runs there is not what the bundle names")
	errNoCard     = errors.New("nobody has pinned its agent card")
	errCard       = errors.New("it is quarantined: its agent card is not the one that was pinned")
	errPeerSilent = errors.New("it offers no agent card")
)

// outwardPeer is what an agent learns of why a peer is not spoken to.
func outwardPeer(err error) string {
	for _, known := range []error{errNoPeer, errOtherPeer, errNoCard, errCard, errPeerSilent, errNoPlatform, errPairBusy, errBoundary} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	if errors.Is(err, errNoDoor) {
		return errNoPeer.Error()
	}
	return outward(err)
}

// reach finds the way to the peer and its pinned card, if that is what it still
// offers. Both hold until leave is called.
func (p *peer) reach(ctx context.Context) (w way, c *card, leave func(), err error) {
	if w, leave, err = p.way(ctx); err != nil {
		return nil, nil, nil, err
	}
	if c, err = p.card(ctx, w); err != nil {
		leave()
		return nil, nil, nil, err
	}
	return w, c, leave, nil
}

func (p *peer) card(ctx context.Context, way way) (good *card, err error) {
	now := p.link.g.cfg.Now
	p.mu.Lock()
	good = p.good
	fresh := good != nil && p.to == way.name() && now().Sub(p.checked).Abs() < freshFor
	p.mu.Unlock()
	if fresh {
		return good, nil
	}
	if good, err = way.pinned(ctx); err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.good, p.to, p.checked = good, way.name(), now()
	p.mu.Unlock()
	return good, nil
}

// offeredCard reads the card that an agent or a site serves.
func offeredCard(ctx context.Context, resp *http.Response) (*card, error) {
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || contentType(resp) != "application/json" {
		return nil, fmt.Errorf("%w: %w %d", errPeerSilent, errStatus, resp.StatusCode)
	}
	b, err := readAll(ctx, resp.Body, maxCard)
	if err != nil {
		return nil, err
	}
	c, err := parseCard(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCard, err)
	}
	return c, nil
}

// isPin says whether a card is the one that the policy pins by digest.
func (c *card) isPin(digest string) bool { return hex.EncodeToString(c.digest[:]) == digest }

// dialects are those of the card, for an agent that speaks another.
func (c *card) dialects() string {
	var out []string
	for _, d := range slices.Sorted(maps.Keys(c.at)) {
		out = append(out, string(d))
	}
	return strings.Join(out, " and ")
}
