package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"omega/policy"
)

// bodyTime is how long an agent may take to send one request.
const bodyTime = 30 * time.Second

// maxStreams bounds an agent's calls at once; further ones wait in the shim.
const maxStreams = 16

// link is one agent's way out.
type link struct {
	g       *Gateway
	agent   Agent
	rule    policy.AgentRule
	state   *state
	servers map[string]*endpoint
	peers   map[string]*peer
	calls   sync.WaitGroup

	authority *authority
}

// link prepares what the agent may reach: what its bundle declares and the
// policy names.
func (g *Gateway) link(agent Agent) (*link, error) {
	rule, ok := g.cfg.Document.Agent(agent.Name)
	if !ok || agent.Instance == "" {
		return nil, fmt.Errorf("link: the policy does not name agent %q", agent.Name)
	}
	l := &link{g: g, agent: agent, rule: rule, state: g.state(agent.Name, agent.Instance), servers: map[string]*endpoint{}, peers: map[string]*peer{}}
	var err error
	if l.authority, err = newAuthority(agent.Instance, g.cfg.Now()); err != nil {
		return nil, fmt.Errorf("link: %w", err)
	}
	for _, t := range agent.Tools {
		s, ok := g.cfg.Document.Server(t.Server)
		if !ok || l.servers[t.Server] != nil {
			return nil, fmt.Errorf("link: server %q is unknown or declared twice", t.Server)
		}
		pins, err := parsePins(t.Descriptors)
		if err != nil {
			return nil, fmt.Errorf("link: tools of %s: %w", t.Server, err)
		}
		l.servers[t.Server] = l.newEndpoint(s, pins)
	}
	for _, name := range agent.Models {
		if m, ok := g.cfg.Document.Model(name); ok {
			if err := agent.checkEngine(m); err != nil {
				return nil, fmt.Errorf("link: %w", err)
			}
		}
	}
	return l, l.addPeers()
}

// wait returns when no call of this link is in progress.
func (l *link) wait() { l.calls.Wait() }

// ServeHTTP routes by exact path. The shim shows the agent this as
// http://127.0.0.1:3128, and as its proxy for the web.
func (l *link) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.calls.Add(1)
	defer l.calls.Done()
	if r.Method != http.MethodConnect { // each request in a tunnel has its own
		ctx, tab := l.holding(l.traced(r.Context(), r.Header))
		defer tab.close()
		r = r.WithContext(ctx)
	}
	w.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodConnect {
		l.serveConnect(w, r)
		return
	}
	if !isLoopback(r.Host) { // a proxy's request: nobody else is asked by another name
		to, err := parseSite("http", r.Host)
		if err != nil {
			l.refuse(w, r, err.Error())
			return
		}
		l.serveWeb(w, r, to)
		return
	}
	server, isMCP := strings.CutPrefix(r.URL.Path, "/mcp/")
	peer, isPeer := strings.CutPrefix(r.URL.Path, "/a2a/")
	data, isData := strings.CutPrefix(r.URL.Path, "/data/")
	model, isModel := apiAt(r.URL.Path)
	switch {
	case r.Header.Get("Origin") != "" && !isLoopback(originHost(r.Header.Get("Origin"))):
		l.refuse(w, r, "this is asked for as another host than loopback: a page in a browser may have been rebound to it")
	case r.URL.RawQuery != "" || r.URL.RawPath != "":
		l.refuse(w, r, "queries and escaped paths are not forwarded")
	case isMCP && l.servers[server] != nil:
		l.serveMCP(w, r, l.servers[server])
	case isMCP:
		l.refuse(w, r, "no tool server of this name; this agent has: "+strings.Join(l.serverNames(), ", "))
	case isPeer:
		l.serveA2A(w, r, peer)
	case isData:
		l.serveData(w, r, data)
	case isModel:
		l.serveModel(w, r, model)
	case r.URL.Path == "/v1/models":
		l.serveModels(w, r)
	case r.URL.Path == "/ca.pem" && r.Method == http.MethodGet:
		w.Header().Set("Content-Type", "application/x-pem-file")
		_, _ = w.Write(l.authority.PEM())
	default:
		l.refuse(w, r, "only /mcp/SERVER, /a2a/PEER, /data/NAME, /v1/chat/completions, /v1/responses, /v1/embeddings, /v1/models and the proxy lead out of this sandbox")
	}
}

// isLoopback says whether a host with or without a port is the agent's own
// loopback, where the shim listens.
func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || host == "gateway" || err == nil && ip.IsLoopback()
}

func originHost(origin string) string {
	u, err := url.Parse(origin)
	if err != nil {
		return ""
	}
	return u.Host
}

// refuse answers what is no call at all, and enters it.
func (l *link) refuse(w http.ResponseWriter, r *http.Request, reason string) {
	where := clip(r.Method+" "+path.Clean("/"+r.URL.Path), 200)
	if err := l.recordRefusal(r.Context(), "http", where, reason); err != nil {
		l.unrecorded(w, err)
		return
	}
	replyError(w, http.StatusForbidden, "policy_denied", reason)
}

// unrecorded answers when the log did not take an entry.
func (l *link) unrecorded(w http.ResponseWriter, err error) {
	l.g.cfg.Log.Error("entry not recorded", "agent", l.agent.Instance, "error", err)
	replyError(w, http.StatusServiceUnavailable, "not_recorded", withheld(err))
}

func (l *link) serverNames() []string {
	var out []string
	for _, t := range l.agent.Tools {
		out = append(out, t.Server)
	}
	return out
}

// errInput reports a call whose input cannot be decided or logged.
var errInput = errors.New("arguments are larger than what can be logged")

// authorize decides one call and enters the intent. Only a permit comes with
// an intent whose outcome must follow. Where an approval is all that lacks, it
// is asked for, and waited for as long as the policy says.
func (l *link) authorize(ctx context.Context, action, resource string, args json.RawMessage) (policy.Decision, *intent, error) {
	if l.state.lost.Load() {
		return policy.Decision{}, nil, errLost
	}
	i := &intent{link: l, begun: time.Now()}
	d, err := l.enter(ctx, i, action, resource, args)
	if err == nil && d.Approval != "" && l.approved(ctx, i, &d) {
		i = &intent{link: l, begun: time.Now()}
		d, err = l.enter(ctx, i, action, resource, args)
	}
	if err != nil || !d.Permit {
		return d, nil, err
	}
	return d, i, nil
}

// enter decides a call and enters the intent.
func (l *link) enter(ctx context.Context, i *intent, action, resource string, args json.RawMessage) (policy.Decision, error) {
	d, text, err := l.decide(ctx, policy.Call{Action: action, Resource: resource, Args: args, Now: l.g.cfg.Now().Unix()}, i)
	if errors.Is(err, errInput) {
		return policy.Deny(err.Error()), l.recordRefusal(ctx, action, resource, err.Error())
	}
	if err != nil {
		return policy.Decision{}, err
	}
	if i.index, err = l.recordIntent(ctx, i.input, text, d); err != nil {
		return policy.Decision{}, fmt.Errorf("intent: %w", err)
	}
	l.g.observer.decided(l.agent.Name, action, d.Word())
	return d, l.narrowed(ctx, i)
}

// decide holds the state from reading it to keeping the new use, so that two
// calls at once cannot both be the last. A use stays when the call fails later:
// trying is using.
func (l *link) decide(ctx context.Context, call policy.Call, i *intent) (policy.Decision, []byte, error) {
	l.state.mu.Lock()
	defer l.state.mu.Unlock()
	call.Approvals = l.state.approvals(l.agent, call)
	i.input = l.state.Input(call)
	text, err := i.input.Encode()
	if err != nil {
		return policy.Decision{}, nil, fmt.Errorf("decision input: %w", err)
	}
	if len(text) > maxInput {
		return policy.Decision{}, nil, errInput
	}
	// An agent that hangs up must not be able to make a decision that replay
	// does not repeat; the decider has a time limit of its own.
	d := l.g.cfg.Decider.Decide(context.WithoutCancel(ctx), text)
	i.use, i.rule = l.state.Begin(i.input, d), d.Rule
	l.state.spend(l.rule, i.input, d)
	return d, text, nil
}
