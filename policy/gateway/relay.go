package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"net/http"
	"sort"
	"strconv"
	"sync"
	"time"

	"omega/internal/strictjson"
	"omega/policy"
)

// notices are the notifications that a server may send, and the parts of each
// that reach an agent. Each is an action of its own for the policy.
var notices = map[string][]string{
	"notifications/progress":                   {"progressToken", "progress", "total", "message"},
	"notifications/message":                    {"level", "logger", "data"},
	"notifications/resources/updated":          {"uri"},
	"notifications/resources/list_changed":     nil,
	"notifications/tools/list_changed":         nil,
	"notifications/prompts/list_changed":       nil,
	"notifications/subscriptions/acknowledged": {"notifications"},
	"notifications/elicitation/complete":       {"elicitationId"},
}

// questions are what a server may ask an agent: the capability that the agent
// must have declared, which is also the action behind "mcp.". The agent's answer
// is an action of its own, with "/answer": it is a way out like any other.
var questions = map[string]string{
	"sampling/createMessage": "sampling",
	"elicitation/create":     "elicitation",
	"roots/list":             "roots",
}

// outlet answers one request of an agent: in one piece, or as a stream from the
// first message on that comes before the answer.
type outlet struct {
	w       http.ResponseWriter
	timeout time.Duration

	mu      sync.Mutex // guards started, and makes one event at a time
	started bool
}

// open begins the stream.
func (o *outlet) open() error { return o.write(nil) }

// event writes one message into the stream.
func (o *outlet) event(b []byte) error {
	return o.write(append(append([]byte("event: message\ndata: "), b...), "\n\n"...))
}

func (o *outlet) write(b []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.started {
		o.w.Header().Set("Content-Type", "text/event-stream")
		o.w.WriteHeader(http.StatusOK)
		o.started = true
	}
	control := http.NewResponseController(o.w)
	// An agent that does not read must not hold back its server.
	_ = control.SetWriteDeadline(time.Now().Add(o.timeout))
	if _, err := o.w.Write(b); err != nil {
		return err
	}
	return control.Flush()
}

// finish gives the answer itself.
func (o *outlet) finish(id json.RawMessage, result any, fault *rpcError) {
	if !o.started {
		replyRPC(o.w, id, result, fault)
		return
	}
	m := map[string]any{"jsonrpc": "2.0", "id": id}
	if fault != nil {
		m["error"] = fault
	} else {
		m["result"] = result
	}
	if b, err := strictjson.Canonical(m); err == nil {
		_ = o.event(b) // the agent has gone if this fails
	}
}

// relay carries to the agent what a server says before or without an answer.
type relay struct {
	link         *link
	endpoint     *endpoint
	out          *outlet
	caps         map[string]any  // what the agent can be asked
	token        json.RawMessage // the agent's name for the progress of its call
	subscription json.RawMessage // the id of its subscription
	extend       func(time.Duration)
	flows        map[string]*flow
}

// flow is one kind of notification on its way: one intent, and one outcome for
// all of them, since a tool may report progress a thousand times.
type flow struct {
	in   *intent // nil where the policy denies it
	sum  hash.Hash
	size int
}

func (r *relay) began() bool { return len(r.flows) > 0 || r.out.started }

// receive takes one message that is no answer. asked is the request that it
// came with, 0 for none.
func (r *relay) receive(ctx context.Context, s *session, asked int, a *answer) error {
	if r.extend != nil {
		r.extend(0)
	}
	if len(a.ID) > 0 {
		return r.question(ctx, s, a)
	}
	return r.notice(ctx, asked, a)
}

func (r *relay) notice(ctx context.Context, asked int, a *answer) error {
	keep, known := notices[a.Method]
	if !known {
		return nil
	}
	given, err := object(a.Params)
	if err != nil {
		return fmt.Errorf("%s: %w", a.Method, err)
	}
	params := map[string]any{}
	for _, name := range keep {
		if v, ok := given[name]; ok {
			params[name] = v
		}
	}
	if a.Method == "notifications/progress" {
		if len(r.token) == 0 || string(given["progressToken"]) != strconv.Itoa(asked) {
			return nil // of no call that the agent wants to follow
		}
		params["progressToken"] = r.token
	}
	if len(r.subscription) > 0 {
		params["_meta"] = map[string]any{metaSubscription: r.subscription}
	}
	m := map[string]any{"jsonrpc": "2.0", "method": a.Method}
	if len(params) > 0 {
		m["params"] = params
	}
	b, err := strictjson.Canonical(m)
	if err != nil {
		return err
	}
	f, err := r.flow(ctx, "mcp."+a.Method)
	if err != nil || f.in == nil {
		return err
	}
	f.sum.Write(b)
	f.size += len(b)
	return r.out.event(b)
}

// flow decides a kind of notification when the first one comes.
func (r *relay) flow(ctx context.Context, action string) (*flow, error) {
	if f := r.flows[action]; f != nil {
		return f, nil
	}
	_, in, err := r.link.authorize(ctx, action, r.endpoint.Name, nil)
	if err != nil {
		return nil, err
	}
	f := &flow{in: in, sum: sha256.New()}
	if in != nil {
		in.heard(policy.Outcome{})
	}
	if r.flows == nil {
		r.flows = map[string]*flow{}
	}
	r.flows[action] = f
	return f, nil
}

// finish enters the outcomes of all flows.
func (r *relay) finish(ctx context.Context) error {
	var actions []string
	for action, f := range r.flows {
		if f.in != nil {
			actions = append(actions, action)
		}
	}
	sort.Strings(actions)
	for _, action := range actions {
		f := r.flows[action]
		res := result{Status: "ok", Bytes: f.size, SHA256: hex.EncodeToString(f.sum.Sum(nil))}
		if err := f.in.outcome(ctx, res); err != nil {
			return err
		}
	}
	r.flows = nil
	return nil
}

// question puts what a server asks before the agent, if the policy lets it.
func (r *relay) question(ctx context.Context, s *session, a *answer) error {
	if a.Method == "ping" {
		return s.reply(ctx, a.ID, json.RawMessage("{}"), nil)
	}
	needs, known := questions[a.Method]
	if _, declared := r.caps[needs]; !known || !declared {
		return s.reply(ctx, a.ID, nil, rpcErrorf(0, codeNoMethod, "the client does not have %s", clip(a.Method, 80)))
	}
	params, in, why, err := r.link.askAgent(ctx, r.endpoint, a.Method, a.Params)
	if err != nil {
		return err
	}
	if in == nil {
		return s.reply(ctx, a.ID, nil, rpcErrorf(0, codeInvalid, "%s", why))
	}
	id := r.endpoint.ask(question{session: s, id: a.ID, method: a.Method})
	b, err := strictjson.Canonical(map[string]any{"jsonrpc": "2.0", "id": id, "method": a.Method, "params": params})
	if err != nil {
		return err
	}
	if err := in.outcome(ctx, delivered(b)); err != nil {
		return err
	}
	if r.extend != nil {
		r.extend(askTime)
	}
	return r.out.event(b)
}

// object reads parameters as an object; none is an empty one.
func object(raw json.RawMessage) (map[string]json.RawMessage, error) {
	fields := map[string]json.RawMessage{}
	if len(raw) == 0 || string(raw) == "null" {
		return fields, nil
	}
	limits := strictjson.Limits{MaxBytes: maxAnswer, MaxDepth: maxAnswerDepth}
	if err := strictjson.Decode(raw, &fields, limits); err != nil || fields == nil {
		return nil, fmt.Errorf("parameters: %w: %w", errTooOdd, err)
	}
	return fields, nil
}
