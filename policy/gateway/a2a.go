package gateway

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"sort"
	"strings"
	"sync"
	"time"

	"omega/policy"
)

// dialect is a generation of A2A's JSON-RPC binding. A message passes in the one
// that it came in; nothing is translated.
type dialect string

// The dialects that are spoken.
const (
	dialect03 dialect = "0.3" // A2A 0.3, section 7: methods with slashes, results with a kind
	dialect10 dialect = "1.0" // A2A 1.0, section 9: methods of the service, results with one field
)

// a2aMethod is a request that passes where the policy permits its action.
type a2aMethod struct {
	name    string
	dialect dialect
	action  string
	message bool // a message, and not a question about a task
	stream  bool
}

var a2aMethods = []a2aMethod{
	{"message/send", dialect03, policy.ActionSend, true, false},
	{"message/stream", dialect03, policy.ActionStream, true, true},
	{"tasks/get", dialect03, policy.ActionTaskGet, false, false},
	{"tasks/cancel", dialect03, policy.ActionTaskCancel, false, false},
	{"tasks/resubscribe", dialect03, policy.ActionResubscribe, false, true},
	{"SendMessage", dialect10, policy.ActionSend, true, false},
	{"SendStreamingMessage", dialect10, policy.ActionStream, true, true},
	{"GetTask", dialect10, policy.ActionTaskGet, false, false},
	{"CancelTask", dialect10, policy.ActionTaskCancel, false, false},
	{"SubscribeToTask", dialect10, policy.ActionResubscribe, false, true},
}

// Errors of A2A (0.3 section 8.2, 1.0 section 5.4).
const (
	codeNoTask     = -32001
	codeNoPush     = -32003
	codeNotOffered = -32004
	codeNoExtended = -32007
)

// neverA2A are the methods that pass for nobody, and what an agent is told.
var neverA2A = []struct {
	prefix string
	code   int
	why    string
}{
	{"tasks/pushNotificationConfig/", codeNoPush, noPush},
	{"CreateTaskPushNotification", codeNoPush, noPush}, {"GetTaskPushNotification", codeNoPush, noPush},
	{"ListTaskPushNotification", codeNoPush, noPush}, {"DeleteTaskPushNotification", codeNoPush, noPush},
	{"agent/getAuthenticatedExtendedCard", codeNoExtended, "the card that is pinned is all there is"},
	{"GetExtendedAgentCard", codeNoExtended, "the card that is pinned is all there is"},
	{"ListTasks", codeNotOffered, "a list would show the tasks of others; ask for a task by its id"},
}

const noPush = "push notifications do not pass: they make a peer call a URL; subscribe to the task instead"

// Bounds of A2A. A file comes inside of a message, in base64.
const (
	maxMessage       = 2 << 20
	maxMessageValues = 32 << 10
	// maxConversation bounds one stream; each event in it is at most a message.
	maxConversation = 64 << 20
	// maxPairCalls bounds what one agent asks of one peer at once, so that it
	// cannot take all the places that the other has; further requests wait.
	maxPairCalls = 4
)

// Paths below /a2a/PEER (A2A 0.3 section 5.3, RFC 8615; the second is 0.2's).
const (
	cardPath    = ".well-known/agent-card.json"
	oldCardPath = ".well-known/agent.json"
)

// PeerPin is whom an agent's bundle means by the name of a peer: what runs
// there, or a key of who signed that.
type PeerPin struct {
	Name   string
	Bundle [32]byte // or, where it is zero,
	Key    string   // hex SHA-256 of the SubjectPublicKeyInfo
}

// fits says whether a running agent is the one that is meant.
func (p PeerPin) fits(bundle [32]byte, keys []string) bool {
	if p.Bundle != [32]byte{} {
		return p.Bundle == bundle
	}
	for _, k := range keys {
		if k == p.Key && k != "" {
			return true
		}
	}
	return false
}

// peer is another agent as one agent sees it.
type peer struct {
	policy.Peer
	link  *link
	pin   PeerPin
	slots chan struct{}

	mu      sync.Mutex // guards what follows
	to      string     // the instance of a local peer that it talks to
	good    *card      // what was pinned and is offered
	checked time.Time
}

// addPeers prepares the peers that the agent's bundle declares, and reads its own
// card, so that an agent whom nobody could speak to is not started.
func (l *link) addPeers() error {
	for _, pin := range l.agent.Peers {
		p, ok := l.g.cfg.Document.Peer(pin.Name)
		if !ok || l.peers[pin.Name] != nil {
			return fmt.Errorf("link: peer %q is unknown or declared twice", pin.Name)
		}
		l.peers[pin.Name] = &peer{Peer: p, link: l, pin: pin, slots: make(chan struct{}, maxPairCalls)}
	}
	if len(l.agent.Card) == 0 {
		return nil
	}
	_, err := parseCard(l.agent.Card)
	return err
}

// peerNames are the peers that the agent's bundle declares.
func (l *link) peerNames() string {
	var out []string
	for name := range l.peers {
		out = append(out, name)
	}
	sort.Strings(out)
	return strings.Join(out, ", ")
}

// serveA2A routes what is below /a2a/: messages, and the card of the peer.
func (l *link) serveA2A(w http.ResponseWriter, r *http.Request, rest string) {
	name, tail, _ := strings.Cut(rest, "/")
	p := l.peers[name]
	switch {
	case p == nil:
		l.refuse(w, r, "no peer of this name; this agent has: "+l.peerNames())
	case r.Method == http.MethodPost && tail == "":
		l.postA2A(w, r, p)
	case r.Method == http.MethodGet && (tail == cardPath || tail == oldCardPath):
		l.showCard(w, r, p)
	default:
		l.refuse(w, r, "a peer is sent messages with POST, and its card is at "+cardPath)
	}
}

// showCard gives out the pinned card, as that of the gateway's own URL.
func (l *link) showCard(w http.ResponseWriter, r *http.Request, p *peer) {
	d, in, err := l.authorize(r.Context(), policy.ActionCard, p.Name, nil)
	switch {
	case err != nil:
		l.unrecorded(w, err)
		return
	case in == nil:
		replyError(w, http.StatusForbidden, "policy_denied", denial("The card of "+p.Name, d.Reasons))
		return
	}
	_, c, leave, err := p.reach(r.Context())
	if err != nil {
		l.g.cfg.Log.Warn("peer refused", "agent", l.agent.Instance, "peer", p.Name, "reason", err.Error())
		if err := in.outcome(r.Context(), failed("refused", err.Error())); err != nil {
			l.unrecorded(w, err)
			return
		}
		replyError(w, http.StatusBadGateway, "peer_unavailable", p.Name+" is not to be had: "+outwardPeer(err))
		return
	}
	leave()
	if err := in.outcome(r.Context(), result{Status: "ok", SHA256: hex.EncodeToString(c.digest[:])}); err != nil {
		l.unrecorded(w, err)
		return
	}
	reply(w, http.StatusOK, c.shown("http://"+gatewayHost+"/a2a/"+p.Name, l.permits(policy.ActionStream, p.Name)))
}

// gatewayHost is where the shim shows the gateway to an agent.
const gatewayHost = "127.0.0.1:3128"

// postA2A reads one request strictly, and carries it out.
func (l *link) postA2A(w http.ResponseWriter, r *http.Request, p *peer) {
	c := &a2aCall{link: l, peer: p, out: &outlet{w: w, timeout: l.g.cfg.Timeout}, pair: l.agent.Instance}
	if fault := c.read(r); fault != nil {
		c.refuse(r, fault)
		return
	}
	c.carry(r.Context())
}

// refuse enters and answers what the policy was not asked about.
func (c *a2aCall) refuse(r *http.Request, fault *rpcError) {
	if err := c.link.recordRefusal(r.Context(), "a2a", c.peer.Name, fault.Message); err != nil {
		c.link.g.cfg.Log.Error("entry not recorded", "agent", c.link.agent.Instance, "error", err)
		fault = rpcErrorf(http.StatusServiceUnavailable, codeInternal, "%s", withheld(err))
	}
	c.out.finish(c.id, nil, fault)
}

// rawNull is the JSON-RPC id of an answer to what had none.
var rawNull = json.RawMessage("null")
