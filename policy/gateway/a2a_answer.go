package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"slices"

	"omega/internal/strictjson"
	"omega/policy"
)

// a2aAnswer is one message of a peer: a result, encoded anew, or an error.
type a2aAnswer struct {
	result []byte
	fault  *rpcError
	final  bool // nothing comes after it in a stream
}

// message is the answer under the id that who asked gave.
func (a *a2aAnswer) message(id json.RawMessage) []byte {
	return slices.Concat([]byte(`{"id":`), id, []byte(`,"jsonrpc":"2.0","result":`), a.result, []byte("}"))
}

// take reads one message of the other side strictly.
func (c *a2aCall) take(way way, b []byte) (*a2aAnswer, []string, error) {
	labels, b, err := way.open(b)
	if err != nil {
		return nil, nil, err
	}
	m, err := parseAnswer(b)
	switch {
	case err != nil:
		return nil, nil, err
	case c.link.g.leaks(way.secrets(), b):
		return nil, nil, errLeak
	case m.Method != "" || len(m.Params) > 0:
		return nil, nil, fmt.Errorf("a peer asks nothing: %w", errTooOdd)
	case m.Error != nil:
		fault := rpcErrorf(http.StatusOK, m.Error.Code, "%s", m.Error.Message)
		if len(m.Error.Data) > 0 && len(m.Error.Data) < maxErrorData {
			fault.Data = m.Error.Data
		}
		return &a2aAnswer{fault: fault, final: true}, labels, nil
	case string(m.ID) != outgoingID || len(m.Result) == 0:
		return nil, nil, fmt.Errorf("answer to another request: %w", errTooOdd)
	}
	a := new(a2aAnswer)
	if a.result, err = strictjson.Canonical(m.Result); err == nil {
		a.final, err = c.learn(way, a.result)
	}
	return a, labels, err
}

// a2aResult is what the gateway reads of a result itself.
type a2aResult struct {
	a2aThing
	kind    string               // 0.3
	wrapped map[string]*a2aThing // 1.0: the one field, by what is in it
}

// a2aThing is a task, a message or an update of either dialect.
type a2aThing struct {
	id, task, context, state string
	final                    bool
}

// wrappers are the fields that a result of 1.0 can be.
var wrappers = map[string]string{"task": "task", "message": "message", "statusUpdate": "status", "artifactUpdate": "artifact"}

// readResult reads a result in canonical form. It looks at few fields, and over
// the rest, which is most, it only jumps.
func readResult(raw []byte) (r a2aResult, err error) {
	r.wrapped = map[string]*a2aThing{}
	err = eachField(raw, func(name string, value []byte) error {
		if kind, wraps := wrappers[name]; wraps && value[0] == '{' {
			r.wrapped[kind] = new(a2aThing)
			return r.wrapped[kind].read(value)
		}
		if name == "kind" {
			return json.Unmarshal(value, &r.kind)
		}
		return r.field(name, value)
	})
	return r, err
}

func (t *a2aThing) read(raw []byte) error { return eachField(raw, t.field) }

func (t *a2aThing) field(name string, value []byte) error {
	switch name {
	case "id":
		return json.Unmarshal(value, &t.id)
	case "taskId":
		return json.Unmarshal(value, &t.task)
	case "contextId":
		return json.Unmarshal(value, &t.context)
	case "final":
		return json.Unmarshal(value, &t.final)
	case "status":
		return eachField(value, func(name string, value []byte) error {
			if name == "state" {
				return json.Unmarshal(value, &t.state)
			}
			return nil
		})
	}
	return nil
}

// ended are the states that a task of 1.0 does not leave.
var ended = []string{"TASK_STATE_COMPLETED", "TASK_STATE_FAILED", "TASK_STATE_CANCELED", "TASK_STATE_REJECTED"}

// learn checks that a result is one, and keeps the ids in it for this pair.
func (c *a2aCall) learn(way way, raw []byte) (final bool, err error) {
	r, err := readResult(raw)
	if err != nil {
		return false, fmt.Errorf("result of %s: %w: %w", c.method.name, errTooOdd, err)
	}
	kind, thing := r.kind03(), &r.a2aThing
	if c.method.dialect == dialect10 {
		kind, thing = r.kind10(c.method.message || c.method.stream)
	}
	switch task := kind == "task"; {
	case kind == "" || !task && !c.method.message && !c.method.stream:
		return false, fmt.Errorf("result of %s: %w", c.method.name, errTooOdd)
	case !c.method.stream && !task && kind != "message":
		return false, fmt.Errorf("an update in one piece: %w", errTooOdd)
	case task && (thing.id == "" || thing.task != ""):
		return false, fmt.Errorf("a task without an id: %w", errTooOdd)
	case task:
		thing.task = thing.id
	}
	for _, id := range []struct{ kind, id string }{{"task", thing.task}, {"context", thing.context}} {
		if len(id.id) > maxPeerID {
			return false, fmt.Errorf("an id: %w", errTooLong)
		}
		if id.id != "" { // one that is another pair's stays that pair's
			c.link.g.ledgers.of(way.ledger()).claim(c.pair, id.kind, id.id)
		}
	}
	return kind == "message" || thing.final || kind == "status" && slices.Contains(ended, thing.state), nil
}

func (r *a2aResult) kind03() string {
	switch r.kind {
	case "task", "message":
		return r.kind
	case "status-update":
		return "status"
	case "artifact-update":
		return "artifact"
	}
	return ""
}

// kind10 finds the one field that a result of 1.0 has; a task alone has none
// around it.
func (r *a2aResult) kind10(wrapped bool) (string, *a2aThing) {
	if !wrapped {
		return "task", &r.a2aThing
	}
	for kind, thing := range r.wrapped {
		if len(r.wrapped) == 1 {
			return kind, thing
		}
	}
	return "", &a2aThing{}
}

// conversation is a stream of answers on its way.
type conversation struct {
	sum    hash.Hash
	size   int
	labels []string
}

// stream passes a peer's events as they come, each read strictly and written
// anew. The last one is given out when the outcome has been entered.
func (c *a2aCall) stream(ctx context.Context, in *intent, way way, resp *http.Response, awake func()) *rpcError {
	s := &conversation{sum: sha256.New()}
	last, err := c.events(ctx, in, way, resp.Body, s, awake)
	if errors.Is(err, io.ErrUnexpectedEOF) && s.size > 0 {
		err = nil // a stream ends where its peer ends it
	}
	var fault *rpcError
	r := result{Status: "ok"}
	switch {
	case err != nil:
		return c.broken(ctx, in, err)
	case last != nil && last.fault != nil:
		fault = last.fault
		r = failed("error", fault.Message)
	case last != nil:
		s.sum.Write(last.result)
		s.size += len(last.result)
	}
	r.Bytes, r.SHA256, r.labels = s.size, hex.EncodeToString(s.sum.Sum(nil)), s.labels
	if fault = c.done(ctx, in, r, fault); fault == nil && last != nil && c.out.open() == nil {
		c.give(s.labels, last.message(c.id))
	}
	return fault
}

// events gives out all events but the last one, which it returns; a stream that
// just ends has none.
func (c *a2aCall) events(ctx context.Context, in *intent, way way, body io.Reader, s *conversation, awake func()) (*a2aAnswer, error) {
	events := newEvents(ctx, body, maxMessage)
	for all := 0; ; {
		data, err := events.next()
		if err != nil {
			return nil, err
		}
		awake()
		if all += len(data); all > maxConversation {
			return nil, errTooLong
		}
		events.rest = maxMessage // a stream may be long, its events may not
		if len(bytes.TrimSpace(data)) == 0 {
			continue
		}
		a, labels, err := c.take(way, data)
		if err != nil {
			return nil, err
		}
		if s.labels = labels; a.final {
			return a, nil
		}
		if s.size == 0 {
			in.heard(policy.Outcome{})
			if err := c.out.open(); err != nil {
				return nil, err
			}
		}
		if c.seal == nil {
			c.link.hear(labels)
		}
		s.sum.Write(a.result)
		s.size += len(a.result)
		c.give(labels, a.message(c.id))
	}
}
