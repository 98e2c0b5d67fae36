package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"time"

	"omega/policy"
)

// stream passes a model's events as they come, each read strictly and written
// anew. The outcome is entered before the end of the stream is given out: an
// agent that sees the last event has an entry; one that does not sees a broken
// stream.
func (q *ask) stream(w http.ResponseWriter, r *http.Request, resp *http.Response) {
	q.in.heard(policy.Outcome{})
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	// An agent that does not read must not hold back the outcome of its call.
	_ = control.SetWriteDeadline(time.Now().Add(q.link.g.cfg.Timeout))
	sum, size := sha256.New(), 0
	out := io.MultiWriter(w, sum)
	var usage *policy.Usage
	last, err := q.eachEvent(r.Context(), resp.Body, func(data []byte) error {
		if u := usageOf(data); u != nil {
			usage = u
		}
		if q.onlyUsage(data) {
			return nil
		}
		n, err := out.Write(q.event(data))
		if size += n; err != nil {
			return err
		}
		return control.Flush()
	})
	if u := usageOf(last); u != nil {
		usage = u
	}
	end := q.event(last)
	sum.Write(end)
	res := result{Status: "ok", Bytes: size + len(end), SHA256: hex.EncodeToString(sum.Sum(nil)), usage: usage}
	if err != nil {
		res.Status, res.Error = "error", clip(err.Error(), 500)
	}
	if rec := q.in.outcome(r.Context(), res); rec != nil || err != nil {
		q.link.g.cfg.Log.Error("stream broken off", "agent", q.link.agent.Instance, "error", errors.Join(rec, err))
		panic(http.ErrAbortHandler) // net/http's way to reset the stream
	}
	_, _ = w.Write(end)
}

// done ends a stream of chat completions.
var done = []byte("[DONE]")

// eachEvent calls do for every event up to the last one, which it returns.
func (q *ask) eachEvent(ctx context.Context, r io.Reader, do func(data []byte) error) (last []byte, err error) {
	events := newEvents(ctx, r, maxAnswer)
	for {
		data, err := events.next()
		if err != nil {
			return nil, err
		}
		if bytes.Equal(data, done) && q.api.final == nil {
			return done, nil
		}
		if data, err = clean(data); err != nil {
			return nil, err
		}
		if q.link.g.leaks(q.model.Secrets, data) {
			return nil, errLeak
		}
		if q.api.final != nil && q.api.final(data) {
			return data, nil
		}
		if err := do(data); err != nil {
			return nil, err
		}
	}
}

// onlyUsage is an event of chat completions that the gateway asked for, to
// settle budgets, and the agent did not.
func (q *ask) onlyUsage(data []byte) bool {
	var m struct {
		Choices []json.RawMessage `json:"choices"`
		Usage   json.RawMessage   `json:"usage"`
	}
	return q.api.action == policy.ActionChat && !q.usage && json.Unmarshal(data, &m) == nil && len(m.Choices) == 0 && len(m.Usage) > 0
}

var eventForm = regexp.MustCompile(`^[a-z_.]{1,80}$`)

// event writes one event; those of the responses interface have names.
func (q *ask) event(data []byte) []byte {
	name := eventType(data)
	if q.api.final == nil || !eventForm.MatchString(name) {
		return fmt.Appendf(nil, "data: %s\n\n", data)
	}
	return fmt.Appendf(nil, "event: %s\ndata: %s\n\n", name, data)
}

func eventType(data []byte) string {
	var m struct {
		Type string `json:"type"`
	}
	_ = json.Unmarshal(data, &m) // an event without a type has none
	return m.Type
}

// finalResponse says whether an event ends a stream of the responses interface.
func finalResponse(data []byte) bool {
	switch eventType(data) {
	case "response.completed", "response.failed", "response.incomplete", "error":
		return true
	}
	return false
}
