package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"omega/internal/strictjson"
	"omega/policy"
)

// a2aCall is one request from one agent to another on its way.
type a2aCall struct {
	link    *link // of the agent whose rules decide
	peer    *peer // nil where the request came from another platform
	out     *outlet
	id      json.RawMessage // as the agent gave it; it does not go out
	method  a2aMethod
	params  a2aParams
	encoded []byte // of params
	pair    string // who asks, for the other side's ledger

	// seal puts an answer into the form in which it goes to who asked; nil for an
	// agent, which gets the answer itself.
	seal func(labels []string, answer []byte) ([]byte, error)
}

// outgoingID is the id of every request that goes out: one stream carries one.
const outgoingID = "1"

// body is the request as it goes out.
func (c *a2aCall) body() []byte {
	return slices.Concat([]byte(`{"id":`+outgoingID+`,"jsonrpc":"2.0","method":"`+c.method.name+`","params":`), c.encoded, []byte("}"))
}

// asks are the tasks and contexts that a request is about.
func (c *a2aCall) asks() (tasks []string, context string) {
	if m := c.params.Message; m != nil {
		tasks = slices.Clone(m.References)
		if m.TaskID != "" {
			tasks = append(tasks, m.TaskID)
		}
		return tasks, m.ContextID
	}
	return []string{c.params.ID}, ""
}

// within refuses tasks that were not given to this agent by this peer, and
// contexts that are another's.
func (c *a2aCall) within(l *ledger) *rpcError {
	tasks, context := c.asks()
	for _, id := range tasks {
		if !l.holds(c.pair, "task", id) {
			return rpcErrorf(http.StatusOK, codeNoTask, "no such task between these two agents")
		}
	}
	if context != "" && !l.claim(c.pair, "context", context) {
		return rpcErrorf(http.StatusOK, codeParams, "this context is not between these two agents; leave it out to begin one")
	}
	return nil
}

// args states the request for the policy, and says whether a part of it is to be
// fetched from an address.
func (c *a2aCall) args(action, resource string) (text json.RawMessage, remote bool, err error) {
	args := map[string]any{}
	if action == policy.ActionReceive {
		args["method"] = strings.TrimPrefix(c.method.action, "a2a.")
	}
	if m := c.params.Message; m != nil {
		remote = m.state(args, c.encoded, c.link.constrains(action, resource, "", "text"))
	} else {
		args["task"] = c.params.ID
	}
	text, err = strictjson.Canonical(args)
	return text, remote, err
}

// constrains says whether a permit looks at an argument: the one named, or any.
func (l *link) constrains(action, resource, rule, arg string) bool {
	for _, p := range l.rule.Permits {
		if _, does := p.Args[arg]; does && p.Action == action && slices.Contains(p.Names(), resource) && (rule == "" || rule == p.ID) {
			return true
		}
	}
	return false
}

// carry decides a request, and carries it out.
func (c *a2aCall) carry(ctx context.Context) {
	in, fault := c.decide(ctx, c.method.action, c.peer.Name)
	if in != nil {
		fault = c.send(ctx, in)
	}
	if fault != nil {
		c.finish(fault)
	}
}

// decide asks the policy. Without an intent there is a fault.
func (c *a2aCall) decide(ctx context.Context, action, resource string) (*intent, *rpcError) {
	args, remote, err := c.args(action, resource)
	if err != nil {
		return nil, rpcErrorf(http.StatusOK, codeParams, "message: %v", err)
	}
	d, in, err := c.link.authorize(ctx, action, resource, args)
	switch {
	case err != nil:
		return nil, c.unrecorded(err)
	case !d.Permit:
		return nil, rpcErrorf(http.StatusOK, codeInvalid, "%s", denial(action+" to "+resource, d.Reasons))
	case remote && !c.link.constrains(action, resource, d.Rule, "files"):
		why := denial(action+" to "+resource, []string{"the rule does not name files that are to be fetched from an address; send their bytes"})
		return nil, c.done(ctx, in, failed("refused", why), rpcErrorf(http.StatusOK, codeInvalid, "%s", why))
	}
	return in, nil
}

// send puts a permitted request on its way to the peer.
func (c *a2aCall) send(ctx context.Context, in *intent) *rpcError {
	select {
	case c.peer.slots <- struct{}{}:
		defer func() { <-c.peer.slots }()
	case <-time.After(c.link.g.cfg.Timeout):
		return c.refused(ctx, in, errPairBusy)
	case <-ctx.Done():
		return c.refused(ctx, in, ctx.Err())
	}
	way, pinned, leave, err := c.peer.reach(ctx)
	if err != nil {
		return c.refused(ctx, in, err)
	}
	defer leave()
	to := pinned.at[c.method.dialect]
	if to == nil {
		why := c.peer.Name + " speaks A2A " + pinned.dialects() + ", not " + string(c.method.dialect)
		return c.done(ctx, in, failed("refused", why), rpcErrorf(http.StatusOK, codeNoMethod, "%s", why))
	}
	return c.exchange(ctx, in, way, to.Path)
}

// refused enters that a peer is not spoken to.
func (c *a2aCall) refused(ctx context.Context, in *intent, err error) *rpcError {
	name := in.input.Resource
	return c.done(ctx, in, failed("refused", err.Error()), rpcErrorf(http.StatusOK, codeInternal, "%s is not to be had: %s", name, outwardPeer(err)))
}

// exchange sends the request and passes what comes back. A conversation may be
// long, but not silent.
func (c *a2aCall) exchange(ctx context.Context, in *intent, way way, path string) *rpcError {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	patience := c.link.g.cfg.Timeout
	silent := time.AfterFunc(patience, func() { cancel(context.DeadlineExceeded) })
	defer silent.Stop()
	if fault := c.within(c.link.g.ledgers.of(way.ledger())); fault != nil {
		return c.done(ctx, in, failed("refused", fault.Message), fault)
	}
	resp, err := way.send(ctx, a2aRequest{call: c, labels: in.input.State.Labels, path: path})
	if err != nil {
		return c.broken(ctx, in, err)
	}
	defer resp.Body.Close()
	if c.method.stream && resp.StatusCode == http.StatusOK && contentType(resp) == "text/event-stream" {
		return c.stream(ctx, in, way, resp, func() { silent.Reset(patience) })
	}
	return c.whole(ctx, in, way, resp)
}

// whole passes an answer in one piece.
func (c *a2aCall) whole(ctx context.Context, in *intent, way way, resp *http.Response) *rpcError {
	if kind := contentType(resp); kind != "application/json" {
		return c.broken(ctx, in, errStatus)
	}
	b, err := readAll(ctx, resp.Body, maxAnswer)
	if err != nil {
		return c.broken(ctx, in, err)
	}
	a, labels, err := c.take(way, b)
	if err != nil {
		return c.broken(ctx, in, err)
	}
	if a.fault != nil {
		r := failed("error", a.fault.Message)
		r.labels = labels
		return c.done(ctx, in, r, a.fault)
	}
	r := delivered(a.result)
	r.labels = labels
	if fault := c.done(ctx, in, r, nil); fault != nil {
		return fault
	}
	c.give(labels, a.message(c.id))
	return nil
}

// broken enters that a peer did not answer, or not as it should.
func (c *a2aCall) broken(ctx context.Context, in *intent, err error) *rpcError {
	if cause := context.Cause(ctx); errors.Is(cause, context.DeadlineExceeded) {
		err = cause
	}
	return c.done(ctx, in, failed("error", err.Error()),
		rpcErrorf(http.StatusOK, codeInternal, "%s did not answer: %s", in.input.Resource, outwardPeer(err)))
}

// done enters the outcome; without it nothing is given out.
func (c *a2aCall) done(ctx context.Context, in *intent, r result, fault *rpcError) *rpcError {
	if err := in.settle(ctx, r); err != nil {
		return c.unrecorded(err)
	}
	return fault
}

func (c *a2aCall) unrecorded(err error) *rpcError {
	c.link.g.cfg.Log.Error("entry not recorded", "agent", c.link.agent.Instance, "error", err)
	return rpcErrorf(http.StatusServiceUnavailable, codeInternal, "%s", withheld(err))
}

// give hands one message to who asked.
func (c *a2aCall) give(labels []string, message []byte) {
	if c.seal != nil {
		sealed, err := c.seal(labels, message)
		if err != nil {
			c.link.g.cfg.Log.Error("answer between platforms", "error", err)
			return
		}
		message = sealed
	}
	if c.out.started {
		_ = c.out.event(message) // who asked has gone if this fails
		return
	}
	replyBytes(c.out.w, http.StatusOK, message)
}

// finish gives an error in the place of an answer.
func (c *a2aCall) finish(fault *rpcError) {
	if c.seal == nil {
		c.out.finish(c.id, nil, fault)
		return
	}
	if message, err := strictjson.Canonical(map[string]any{"jsonrpc": "2.0", "id": c.idOrNull(), "error": fault}); err == nil {
		c.give(c.link.labels(), message)
	}
}

// idOrNull is the request's id, or null where it had none that could be read.
func (c *a2aCall) idOrNull() json.RawMessage {
	if len(c.id) == 0 {
		return rawNull
	}
	return c.id
}

// labels are those of the link's agent.
func (l *link) labels() []string {
	l.state.mu.Lock()
	defer l.state.mu.Unlock()
	return l.state.Labels()
}

// hear keeps what an agent is about to learn of another: labels only grow.
func (l *link) hear(labels []string) {
	l.state.mu.Lock()
	defer l.state.mu.Unlock()
	l.state.Merge(labels...)
}

// labelForm says whether a text from another platform is a label.
func labelForm(label string) bool {
	kind, of, found := strings.Cut(label, ":")
	return found && len(label) <= maxLabel && (kind == "readers" || kind == "untrusted" && of != "") && !strings.ContainsFunc(of, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// maxLabel bounds a label of another platform.
const maxLabel = 4 << 10
