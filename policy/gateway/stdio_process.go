package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"omega/internal/strictjson"
)

// process is one server process.
type process struct {
	name  string
	rw    io.ReadWriteCloser
	in    *charged // what it says
	after func()
	done  chan struct{} // closed when nothing more is read from it

	writing  sync.Mutex // one message at a time
	greeting sync.Mutex // one initialize at a time; guards hello
	hello    json.RawMessage
	greeted  bool // its initialized notification went out; guarded by greeting

	mu      sync.Mutex // guards what follows
	next    int
	waiting map[int]*waiter // by the id that the process was given
	hearer  *waiter         // of what is said unasked
	err     error
}

// waiter is one request of a session, whose answer is a stream.
type waiter struct {
	id    json.RawMessage // in its session
	body  *io.PipeWriter
	hears bool // its session takes what the server says before the answer
}

func newProcess(name string, rw io.ReadWriteCloser, t *tab, after func()) *process {
	p := &process{name: name, rw: rw, in: &charged{from: rw, tab: t}, after: after, done: make(chan struct{}), waiting: map[int]*waiter{}}
	go func() {
		defer close(p.done)
		p.end(p.read())
		t.close()
	}()
	return p
}

func (p *process) ended() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err != nil
}

// end closes the process's ends and tells all who wait.
func (p *process) end(err error) {
	p.mu.Lock()
	if p.err != nil {
		p.mu.Unlock()
		return
	}
	p.err = err
	left := p.waiting
	p.waiting = map[int]*waiter{}
	if p.hearer != nil {
		left[0] = p.hearer
	}
	p.hearer = nil
	p.mu.Unlock()
	_ = p.rw.Close()
	for _, w := range left {
		_ = w.body.CloseWithError(err)
	}
}

// write sends one message as a line.
func (p *process) write(m map[string]json.RawMessage) error {
	b, err := strictjson.Canonical(m) // without a newline in it
	if err != nil {
		return err
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	late := time.AfterFunc(writeTime, func() { p.end(fmt.Errorf("%w: it reads nothing", errEnded)) })
	defer late.Stop()
	if _, err := p.rw.Write(append(b, '\n')); err != nil {
		p.end(fmt.Errorf("%w: %w", errEnded, err))
		return errEnded
	}
	return nil
}

// carry sends a message of a session and returns what a server with streamable
// HTTP would.
func (p *process) carry(req *http.Request, m map[string]json.RawMessage) (*http.Response, error) {
	var method string
	if raw, ok := m["method"]; ok {
		_ = json.Unmarshal(raw, &method) // written by this gateway
	}
	switch id, asks := m["id"]; {
	case method == "initialize":
		return p.initialize(req, m)
	case method == "notifications/initialized":
		if err := p.initialized(m); err != nil {
			return nil, err
		}
	case method != "" && asks:
		return p.ask(req, m, &waiter{id: id, hears: hears(method)})
	default: // a notification, or the answer to what the server asked
		if err := p.write(m); err != nil {
			return nil, err
		}
	}
	return plainResponse(req, http.StatusAccepted, nil), nil
}

// ask sends a request under an id of the process's own.
func (p *process) ask(req *http.Request, m map[string]json.RawMessage, w *waiter) (*http.Response, error) {
	var body *io.PipeReader
	body, w.body = io.Pipe()
	n, err := p.wait(w)
	if err != nil {
		return nil, err
	}
	m["id"] = json.RawMessage(strconv.Itoa(n))
	if params := m["params"]; params != nil {
		m["params"], err = renumber(params, m["id"])
	}
	if err == nil {
		err = p.write(m)
	}
	if err != nil {
		p.drop(n)
		return nil, err
	}
	stop := context.AfterFunc(req.Context(), func() { p.cancel(n, req.Context().Err()) })
	resp := plainResponse(req, http.StatusOK, &leaving{ReadCloser: body, leave: func() { stop(); p.cancel(n, errEnded) }})
	resp.Header.Set("Content-Type", "text/event-stream")
	return resp, nil
}

// hears says whether a session takes what a server says before the answer to
// this method: lists and handshakes are the gateway's own.
func hears(method string) bool {
	return method != "initialize" && method != "server/discover" && !strings.HasSuffix(method, "/list")
}

// renumber puts the id of a request in the place of the one that its progress
// is reported for.
func renumber(params, id json.RawMessage) (json.RawMessage, error) {
	fields, meta := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	if json.Unmarshal(params, &fields) != nil || json.Unmarshal(fields["_meta"], &meta) != nil || meta["progressToken"] == nil {
		return params, nil // nothing of it to change
	}
	meta["progressToken"] = id
	var err error
	if fields["_meta"], err = strictjson.Canonical(meta); err != nil {
		return nil, err
	}
	return strictjson.Canonical(fields)
}

// wait keeps who waits for an answer and numbers it.
func (p *process) wait(w *waiter) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return 0, p.err
	}
	p.next++
	p.waiting[p.next] = w
	return p.next, nil
}

func (p *process) drop(n int) *waiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.waiting[n]
	delete(p.waiting, n)
	return w
}

// cancel forgets a request whose answer nobody waits for any more, and tells
// the process so.
func (p *process) cancel(n int, cause error) {
	w := p.drop(n)
	if w == nil {
		return // it was answered
	}
	_ = w.body.CloseWithError(cause)
	params := fmt.Appendf(nil, `{"requestId":%d}`, n)
	_ = p.write(map[string]json.RawMessage{"jsonrpc": json.RawMessage(`"2.0"`), "method": json.RawMessage(`"notifications/cancelled"`), "params": params})
}

// initialize greets the process once and every session with its answer.
func (p *process) initialize(req *http.Request, m map[string]json.RawMessage) (*http.Response, error) {
	p.greeting.Lock()
	defer p.greeting.Unlock()
	id := m["id"]
	if p.hello == nil {
		hello, err := p.greet(req, m)
		if err != nil || p.hello == nil {
			return hello, err
		}
	}
	b, err := strictjson.Canonical(map[string]json.RawMessage{"jsonrpc": json.RawMessage(`"2.0"`), "id": id, "result": p.hello})
	if err != nil {
		return nil, err
	}
	resp := plainResponse(req, http.StatusOK, io.NopCloser(bytes.NewReader(b)))
	resp.Header.Set("Content-Type", "application/json")
	resp.Header.Set(headerSession, p.name)
	return resp, nil
}

// greet asks the process and keeps a result; an error is for the asker alone.
func (p *process) greet(req *http.Request, m map[string]json.RawMessage) (*http.Response, error) {
	resp, err := p.ask(req, m, &waiter{id: m["id"]})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	for events := newEvents(req.Context(), resp.Body, maxAnswer); ; {
		data, err := events.next()
		if err != nil {
			return nil, err
		}
		a, err := parseAnswer(data)
		switch {
		case err != nil:
			return nil, err
		case a.Method != "":
			continue // before the handshake nobody can be asked or told
		case a.Error != nil:
			resp := plainResponse(req, http.StatusOK, io.NopCloser(bytes.NewReader(data)))
			resp.Header.Set("Content-Type", "application/json")
			return resp, nil
		}
		p.hello = a.Result
		return nil, nil
	}
}

// initialized tells the process once that it has been greeted.
func (p *process) initialized(m map[string]json.RawMessage) error {
	p.greeting.Lock()
	defer p.greeting.Unlock()
	if p.greeted {
		return nil
	}
	p.greeted = true
	return p.write(m)
}

// listen opens the stream of what the process says unasked. The newest has it.
func (p *process) listen(req *http.Request) *http.Response {
	body, w := io.Pipe()
	mine := &waiter{body: w}
	p.mu.Lock()
	old := p.hearer
	p.hearer = mine
	if p.err != nil {
		_ = w.CloseWithError(p.err)
	}
	p.mu.Unlock()
	if old != nil {
		_ = old.body.Close()
	}
	leave := func(err error) {
		p.mu.Lock()
		if p.hearer == mine {
			p.hearer = nil
		}
		p.mu.Unlock()
		_ = w.CloseWithError(err)
	}
	stop := context.AfterFunc(req.Context(), func() { leave(req.Context().Err()) })
	resp := plainResponse(req, http.StatusOK, &leaving{ReadCloser: body, leave: func() { stop(); leave(errEnded) }})
	resp.Header.Set("Content-Type", "text/event-stream")
	return resp
}

func plainResponse(req *http.Request, status int, body io.ReadCloser) *http.Response {
	if body == nil {
		body = http.NoBody
	}
	return &http.Response{StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: body, Request: req, ContentLength: -1}
}
