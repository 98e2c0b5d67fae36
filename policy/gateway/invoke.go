package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"omega/internal/strictjson"
	"omega/policy"
)

// Bounds of a caller's request.
const (
	// MaxInvocation bounds what a caller sends, and what an agent answers.
	MaxInvocation = 1 << 20
	// InvocationTime is how long an agent may take.
	InvocationTime = 10 * time.Minute
	// maxShown bounds the input that stands in the log as it came: a decision
	// input has maxInput. Of a longer one the digest does.
	maxShown = 24 << 10
)

// An Invocation is what a caller asks of an agent.
type Invocation struct {
	// Agent is an instance, or the name of an agent that has one instance which
	// takes requests.
	Agent string
	// Session names the caller's session, where it has one.
	Session string
	// Callers are those of the policy that the request's credentials are of.
	Callers []string
	// Subject is whom an identity provider says it is, if one does.
	Subject string
	// Peer is the boot id of the platform that the request is from, if one is.
	Peer        string
	ContentType string
	Input       []byte
}

// An Answer is what an agent said to a caller.
type Answer struct {
	Agent       Agent
	Entry       uint64   // of the log, that speaks of this answer
	Labels      []string // what the agent that gave it has read
	ContentType string
	Output      []byte
}

// Invoke decides a caller's request to an agent and keeps what it means: its
// values can endorse arguments, and its labels are the instance's from now on.
// It stands before the request reaches the agent.
func (g *Gateway) Invoke(ctx context.Context, agent Agent, input json.RawMessage, labels ...string) error {
	in, d, err := g.inward(agent).invoked(ctx, input, input, labels)
	if err != nil {
		return err
	}
	if in == nil {
		return errors.New(denial("Invoking "+agent.Name, d.Reasons))
	}
	return in.outcome(ctx, result{Status: "ok"})
}

// inward is an agent's state and rules for what comes in to it.
func (g *Gateway) inward(agent Agent) *link {
	rule, _ := g.cfg.Document.Agent(agent.Name)
	return &link{g: g, agent: agent, rule: rule, state: g.state(agent.Name, agent.Instance)}
}

// invoked decides and enters a request, and keeps its values and labels.
func (l *link) invoked(ctx context.Context, args json.RawMessage, input []byte, labels []string) (*intent, policy.Decision, error) {
	d, in, err := l.authorize(ctx, policy.ActionInvoke, l.agent.Name, args)
	if in == nil || err != nil {
		return nil, d, err
	}
	l.state.mu.Lock()
	defer l.state.mu.Unlock()
	l.state.Invoke(input, labels...)
	return in, d, nil
}

// Ask hands a caller's request to an agent and its answer to the caller: both
// are decided, entered and labelled. The error is a *Refusal, or the caller's
// having gone.
func (g *Gateway) Ask(ctx context.Context, inv Invocation) (*Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, InvocationTime)
	defer cancel()
	if len(inv.Input) > MaxInvocation {
		return nil, refused(RefusedLong, "the request has %d bytes, at most %d", len(inv.Input), MaxInvocation)
	}
	d, who, leave, err := g.asked(ctx, inv)
	if err != nil {
		return nil, err
	}
	defer leave()
	l := g.inward(d.agent)
	ctx, tab := l.holding(ctx)
	defer tab.close()
	if err := tab.take(len(inv.Input) * copies); err != nil {
		return nil, refused(RefusedBusy, "%v", err)
	}
	args, err := inv.args(who)
	if err != nil {
		return nil, refused(RefusedDenied, "the request has no form that can be entered: %v", err)
	}
	in, decision, err := l.invoked(ctx, args, inv.Input, who.Labels)
	switch {
	case err != nil:
		return nil, l.notEntered(err)
	case in == nil:
		return nil, &Refusal{RefusedDenied, denial("Invoking "+d.agent.Name, decision.Reasons)}
	}
	out, err := l.inquire(ctx, in, inv, who)
	if err != nil {
		if failure := in.outcome(ctx, failed("error", err.Error())); failure != nil {
			return nil, l.notEntered(failure)
		}
		return nil, refused(RefusedFailed, "agent %s did not answer: %v", d.agent.Instance, heardOf(err))
	}
	if err := in.outcome(ctx, delivered(out.Output)); err != nil {
		return nil, l.notEntered(err)
	}
	if err := l.release(ctx, in, out, who); err != nil {
		return nil, err
	}
	return out, nil
}

// asked finds the agent that a request is for, and who sent it. Agents that are
// not the caller's are like none.
func (g *Gateway) asked(ctx context.Context, inv Invocation) (d *door, who policy.Requester, leave func(), err error) {
	if name, ok := g.cleanAgent(inv.Agent); ok {
		return g.askedClean(ctx, inv, name)
	}
	d = g.doors.of(inv.Agent)
	if d == nil {
		d = g.doors.named(inv.Agent)
	}
	if d != nil && !g.clean(d.agent.Name) { // whose sandboxes are found by their sessions alone
		if who, ok := g.cfg.Document.Requester(inv.Callers, policy.RightInvoke, d.agent.Name); ok {
			return d, who, func() {}, nil
		}
	}
	return nil, policy.Requester{}, nil, noSuchAgent()
}

// askedClean is asked for an agent that has a sandbox for each session.
func (g *Gateway) askedClean(ctx context.Context, inv Invocation, name string) (*door, policy.Requester, func(), error) {
	who, ok := g.cfg.Document.Requester(inv.Callers, policy.RightInvoke, name)
	if !ok {
		return nil, who, nil, noSuchAgent()
	}
	key, once := sessionKey(who, inv)
	d, leave, err := g.enter(ctx, name, key, once)
	switch {
	case err == nil:
		return d, who, leave, nil
	case errors.Is(err, errNoPlace):
		return nil, who, nil, refused(RefusedBusy, "%v", errNoPlace)
	case errors.Is(err, errNotOffered):
		return nil, who, nil, noSuchAgent()
	}
	g.cfg.Log.Warn("sandbox for a session", "agent", name, "error", err)
	return nil, who, nil, refused(RefusedFailed, "the session has no sandbox: it did not start, or has ended; try again")
}

func noSuchAgent() *Refusal {
	return refused(RefusedUnknown,
		"no such agent takes requests, or several instances of it do, or none that is yours to ask")
}

// args states a request for the policy and the log.
func (inv Invocation) args(who policy.Requester) (json.RawMessage, error) {
	sum := sha256.Sum256(inv.Input)
	args := map[string]any{
		"caller": who.Name, "bytes": len(inv.Input), "sha256": hex.EncodeToString(sum[:]), "content_type": plainType(inv.ContentType),
	}
	for name, text := range map[string]string{"subject": inv.Subject, "session": inv.Session, "peer": inv.Peer} {
		if text != "" {
			args[name] = clip(text, 256)
		}
	}
	if len(inv.Input) <= maxShown && utf8.Valid(inv.Input) {
		args["input"] = string(inv.Input)
	}
	b, err := strictjson.Canonical(args)
	if err == nil && len(b) > maxInput*3/4 { // what JSON escapes grows
		delete(args, "input")
		b, err = strictjson.Canonical(args)
	}
	return b, err
}

// inquire hands the request to the agent and reads its answer, within bounds.
func (l *link) inquire(ctx context.Context, in *intent, inv Invocation, who policy.Requester) (*Answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent/", bytes.NewReader(inv.Input))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", plainType(inv.ContentType))
	r.Header.Set("Omega-Caller", who.Name)
	r.Header.Set("Omega-Entry", strconv.FormatUint(in.index, 10))
	if inv.Session != "" {
		r.Header.Set("Omega-Session", inv.Session)
	}
	resp, err := l.g.deliver(ctx, l.agent.Instance, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := readAll(ctx, resp.Body, MaxInvocation)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		return nil, &agentError{resp.StatusCode, clip(string(b), 500)}
	}
	return &Answer{Agent: l.agent, ContentType: plainType(resp.Header.Get("Content-Type")), Output: b}, nil
}

// release decides whether the answer may go to the caller, and enters that.
func (l *link) release(ctx context.Context, asked *intent, out *Answer, who policy.Requester) error {
	sum := sha256.Sum256(out.Output)
	args, err := strictjson.Canonical(map[string]any{
		"caller": who.Reader, "bytes": len(out.Output), "sha256": hex.EncodeToString(sum[:]), "invocation": asked.index,
	})
	if err != nil {
		return refused(RefusedWithheld, "the answer has no form that can be entered: %v", err)
	}
	d, in, err := l.authorize(ctx, policy.ActionAnswer, l.agent.Name, args)
	switch {
	case err != nil:
		return l.notEntered(err)
	case in == nil:
		return &Refusal{RefusedWithheld, denial("The answer of "+l.agent.Instance, d.Reasons)}
	}
	out.Labels = in.input.State.Labels
	if out.Entry, err = in.finish(ctx, delivered(out.Output)); err != nil {
		return l.notEntered(err)
	}
	return nil
}

// notEntered refuses because the log did not take an entry.
func (l *link) notEntered(err error) error {
	l.g.cfg.Log.Error("entry not recorded", "agent", l.agent.Instance, "error", err)
	return &Refusal{RefusedLog, withheld(err)}
}

// agentError is an answer that is none, in the agent's own words.
type agentError struct {
	status int
	words  string
}

// Error says that they are the agent's.
func (e *agentError) Error() string { return fmt.Sprintf("it said %d: %q", e.status, e.words) }

// heardOf is what a caller learns of an agent's fault.
func heardOf(err error) error {
	var own *agentError
	switch {
	case errors.As(err, &own):
		return errors.New("it answered with status " + strconv.Itoa(own.status))
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("it took too long")
	case errors.Is(err, errTooLong):
		return errors.New("its answer is too long")
	case errors.Is(err, errRoom):
		return errRoom
	case errors.Is(err, errNoDoor):
		return errNoDoor
	}
	return errors.New("it hung up or broke the protocol")
}

// plainTypes are the content types that pass in and out; a browser must not
// take an agent's words for a page of the platform.
var plainTypes = []string{"application/json", "text/plain", "application/octet-stream"}

func plainType(given string) string {
	kind, _, _ := strings.Cut(given, ";")
	if kind = strings.ToLower(strings.TrimSpace(kind)); slices.Contains(plainTypes, kind) {
		return kind
	}
	return "application/octet-stream"
}
