package front

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"time"

	"omega/policy"
)

// Where callers ask agents, and answer the questions that agents' calls put to
// people.
const (
	InvokePath    = "/v1/invoke/"
	ApprovalsPath = "/v1/approvals"
	ApprovePath   = "/v1/approve"
)

// Headers of an answer of InvokePath beside the agent's own words.
const (
	HeaderInstance  = "Omega-Instance"
	HeaderLabels    = "Omega-Labels"     // a JSON list
	HeaderStatement = "Omega-Invocation" // base64 of attest.SignedInvocation
	HeaderSession   = "Omega-Session"    // of the request: the caller's own word
)

// Bounds of what callers hand in.
const (
	maxInvocation  = 1 << 20
	maxApproval    = 32 << 10
	invocationTime = 11 * time.Minute // the gateway gives up before
	// The gateway's channel has places for 64 requests; some are for others.
	maxInvoking          = 32
	maxInvokingPerCaller = 8
	maxSubject           = 256
)

var sessionForm = regexp.MustCompile(`^[A-Za-z0-9._-]{0,64}$`)

// Invocation is what a caller asks of an agent.
type Invocation struct {
	Agent       string // an instance, or the name of an agent
	Session     string
	Callers     []string // of the policy, whose credentials the request brought
	Subject     string
	Peer        string // the boot id of the platform that it is from, in hex, where it attested
	ContentType string
	Input       []byte
}

// Answer is what an agent said, and the statement about it, if there is one.
type Answer struct {
	Instance    string
	Labels      []string
	ContentType string
	Statement   json.RawMessage
	Output      []byte
}

// Approved answers a POST of ApprovePath.
type Approved struct {
	Entry uint64 `json:"entry"` // of the log, in which the approval was taken
}

// askedRefusals are how a request to an agent is refused, by the gateway's word.
var askedRefusals = map[string]struct {
	status int
	next   string
}{
	"no_such_agent":  {http.StatusNotFound, "list the agents that you may see (GET /v1/agents); those whose manifest says serve take requests"},
	"denied":         {http.StatusForbidden, "change what the reason names"},
	"withheld":       {http.StatusForbidden, "ask as a caller who may know it, or ask an instance that has not read it"},
	"agent_failed":   {http.StatusBadGateway, "look at what the agent wrote last: omega agents URL --output INSTANCE"},
	"busy":           {http.StatusServiceUnavailable, "try again in a moment"},
	"too_long":       {http.StatusRequestEntityTooLarge, "send less"},
	"not_recorded":   {http.StatusServiceUnavailable, "look at the provenance log: it may be full"},
	"malformed":      {http.StatusBadRequest, "sign an approval as docs/gateway.md describes it; omega approve does"},
	"signature":      {http.StatusForbidden, "have as many keys sign as the policy demands of that principal"},
	"expired":        {http.StatusForbidden, "sign an approval that ends later"},
	"does_not_apply": {http.StatusConflict, "look at the open questions (GET /v1/approvals) and sign for one of them"},
	"no_question":    {http.StatusNotFound, "look at the open questions: GET /v1/approvals"},
}

// RefuseAsked is the Problem of a request that the gateway refused for the
// reason that code names.
func RefuseAsked(code, words string) *Problem {
	r, ok := askedRefusals[code]
	if !ok {
		code, r = "denied", askedRefusals["denied"]
	}
	return &Problem{Status: r.status, Code: code, Message: words, Next: r.next}
}

// askedRoutes are the ways in to agents, and to what they ask people.
func (f *Front) askedRoutes(r *rates) []route {
	t := &turns{max: maxInvoking, each: maxInvokingPerCaller, of: map[string]int{}}
	return []route{
		{"POST " + InvokePath + "{agent}", f.paced(r, f.granted(policy.RightInvoke, func(w http.ResponseWriter, r *http.Request, who Who) { f.invoke(w, r, who, t) }))},
		{"GET " + ApprovalsPath, f.paced(r, f.granted(policy.RightApprove, f.approvals))},
		{"POST " + ApprovePath, f.paced(r, f.granted(policy.RightApprove, f.approve))},
	}
}

func (f *Front) invoke(w http.ResponseWriter, r *http.Request, who Who, t *turns) {
	leave, ok := t.enter(who.Caller(policy.RightInvoke))
	if !ok {
		f.problem(w, &Problem{http.StatusTooManyRequests, "busy", "agents work on requests of yours, or of many callers", "wait for an answer, then send this one again"})
		return
	}
	defer leave()
	inv := Invocation{Agent: r.PathValue("agent"), Session: r.Header.Get(HeaderSession), Callers: who.Callers(), Subject: who.Subject,
		ContentType: r.Header.Get("Content-Type")}
	if p := PeerOf(r.Context()); p != nil {
		inv.Peer = p.Evidence.Boot.BootID.String()
	}
	if !sessionForm.MatchString(inv.Session) {
		f.problem(w, &Problem{http.StatusBadRequest, "malformed", HeaderSession + " is no name of a session", "use letters, digits, dots and hyphens"})
		return
	}
	var err error
	if inv.Input, err = body(w, r, maxInvocation); err != nil {
		f.problem(w, err)
		return
	}
	// An agent may think for longer than other requests take.
	c := http.NewResponseController(w)
	_, _ = c.SetReadDeadline(time.Time{}), c.SetWriteDeadline(time.Now().Add(invocationTime+requestTimeout)) // a connection without deadlines has none to move
	// Whoever hangs up keeps the turn until the agent is done: it works on.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), invocationTime)
	defer cancel()
	a, err := f.Invoke(ctx, inv)
	if err != nil {
		f.problem(w, err)
		return
	}
	f.sendAnswer(w, a)
}

// sendAnswer writes an agent's words so that no browser takes them for ours.
func (f *Front) sendAnswer(w http.ResponseWriter, a *Answer) {
	labels, err := json.Marshal(append([]string{}, a.Labels...))
	if err != nil {
		f.problem(w, err)
		return
	}
	h := w.Header()
	h.Set(HeaderInstance, a.Instance)
	h.Set(HeaderLabels, string(labels))
	if len(a.Statement) > 0 {
		h.Set(HeaderStatement, base64.StdEncoding.EncodeToString(a.Statement))
	}
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	write(w, a.ContentType, a.Output)
}

func (f *Front) approvals(w http.ResponseWriter, r *http.Request, who Who) {
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	b, err := f.Pending(ctx, who.Callers())
	if err != nil {
		f.problem(w, err)
		return
	}
	write(w, "application/json", b)
}

func (f *Front) approve(w http.ResponseWriter, r *http.Request, who Who) {
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	b, err := body(w, r, maxApproval)
	if err != nil {
		f.problem(w, err)
		return
	}
	entry, err := f.Approve(ctx, who.Callers(), b)
	if err != nil {
		f.problem(w, err)
		return
	}
	f.reply(w, Approved{entry})
}

// Callers are the names, in the policy, of all that the request is from.
func (w Who) Callers() []string {
	var out []string
	for _, c := range w.granted {
		out = append(out, c.Name)
	}
	return out
}
