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
	if a.final, err = c.learn(way, m.Result); err != nil {
		return nil, nil, err
	}
	a.result, err = strictjson.Canonical(m.Result)
	return a, labels, err
}

// a2aResult is what the gateway reads of a result itself.
type a2aResult struct {
	a2aThing
	Kind     string    `json:"kind"` // 0.3
	Task     *a2aThing `json:"task"` // 1.0, as are the next
	Message  *a2aThing `json:"message"`
	Status2  *a2aThing `json:"statusUpdate"`
	Artifact *a2aThing `json:"artifactUpdate"`
}

// a2aThing is a task, a message or an update of either dialect.
type a2aThing struct {
	ID        string `json:"id"`
	TaskID    string `json:"taskId"`
	ContextID string `json:"contextId"`
	Final     bool   `json:"final"`
	Status    struct {
		State string `json:"state"`
	} `json:"status"`
}

// ended are the states that a task of 1.0 does not leave.
var ended = []string{"TASK_STATE_COMPLETED", "TASK_STATE_FAILED", "TASK_STATE_CANCELED", "TASK_STATE_REJECTED"}

// learn checks that a result is one, and keeps the ids in it for this pair.
func (c *a2aCall) learn(way way, raw json.RawMessage) (final bool, err error) {
	var r a2aResult
	limits := strictjson.Limits{MaxBytes: maxAnswer, MaxDepth: maxAnswerDepth, AllowUnknown: true}
	if err := strictjson.Decode(raw, &r, limits); err != nil {
		return false, err
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
	case task && (thing.ID == "" || thing.TaskID != ""):
		return false, fmt.Errorf("a task without an id: %w", errTooOdd)
	case task:
		thing.TaskID = thing.ID
	}
	for _, id := range []struct{ kind, id string }{{"task", thing.TaskID}, {"context", thing.ContextID}} {
		if len(id.id) > maxPeerID {
			return false, fmt.Errorf("an id: %w", errTooLong)
		}
		if id.id != "" { // one that is another pair's stays that pair's
			c.link.g.ledgers.of(way.ledger()).claim(c.pair, id.kind, id.id)
		}
	}
	return kind == "message" || thing.Final || kind == "status" && slices.Contains(ended, thing.Status.State), nil
}

func (r *a2aResult) kind03() string {
	switch r.Kind {
	case "task", "message":
		return r.Kind
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
	kind, thing := "", (*a2aThing)(nil)
	for name, t := range map[string]*a2aThing{"task": r.Task, "message": r.Message, "status": r.Status2, "artifact": r.Artifact} {
		switch {
		case t != nil && thing != nil:
			return "", &a2aThing{}
		case t != nil:
			kind, thing = name, t
		}
	}
	if thing == nil {
		return "", &a2aThing{}
	}
	return kind, thing
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
