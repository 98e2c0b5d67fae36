package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"omega/internal/strictjson"
)

// post sends a message and returns the result of its answer. What the server
// says before that goes to the relay, or nowhere without one.
func (s *session) post(ctx context.Context, m message, r *relay) (json.RawMessage, error) {
	resp, err := s.send(ctx, m)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if m.id == 0 {
		return nil, drain(resp)
	}
	return s.readAnswer(ctx, resp, m, r)
}

func drain(resp *http.Response) error {
	_, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%w %d", errStatus, resp.StatusCode)
	}
	return err
}

// send writes a message in the form of its revision.
func (s *session) send(ctx context.Context, m message) (*http.Response, error) {
	body := map[string]any{"jsonrpc": "2.0", "method": m.method}
	if m.id != 0 {
		body["id"] = m.id
	}
	meta := map[string]any{}
	if m.revision == rev2026 {
		meta[metaRevision], meta[metaClient], meta[metaCapabilities] = rev2026, clientInfo(), map[string]any{}
		for k, v := range m.meta {
			meta[k] = v
		}
	}
	if m.progress {
		meta["progressToken"] = m.id
	}
	params := map[string]any{}
	for k, v := range m.params {
		params[k] = v
	}
	if len(meta) > 0 {
		params["_meta"] = meta
	}
	if len(params) > 0 || m.params != nil {
		body["params"] = params
	}
	return s.write(ctx, m, body)
}

func (s *session) write(ctx context.Context, m message, body map[string]any) (*http.Response, error) {
	b, err := strictjson.Canonical(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.endpoint.URL, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	m.setHeaders(req.Header)
	return s.do(req)
}

// do adds the server's secrets, last of all.
func (s *session) do(req *http.Request) (*http.Response, error) {
	if err := s.endpoint.link.g.addSecrets(req.Header, s.endpoint.Secrets); err != nil {
		return nil, err
	}
	return s.client.Do(req)
}

func (m message) setHeaders(h http.Header) {
	h.Set("Content-Type", "application/json")
	h.Set("Accept", "application/json, text/event-stream")
	h.Set("User-Agent", "omega-gateway")
	if m.revision != "" {
		h.Set(headerRevision, m.revision)
	}
	if m.session != "" {
		h.Set(headerSession, m.session)
	}
	if m.revision != rev2026 {
		return
	}
	h.Set(headerMethod, m.method)
	if m.name != "" {
		h.Set(headerName, m.name)
	}
	for name, text := range m.headers {
		h.Set(name, text)
	}
}

// reply answers a question of the server.
func (s *session) reply(ctx context.Context, id json.RawMessage, result json.RawMessage, fault *rpcError) error {
	revision, session, _ := s.known()
	body := map[string]any{"jsonrpc": "2.0", "id": id}
	if fault != nil {
		body["error"] = fault
	} else {
		body["result"] = result
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	resp, err := s.write(ctx, message{revision: revision, session: session}, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return drain(resp)
}

// end tells the server that a session is over. It need not listen.
func (s *session) end(ctx context.Context) {
	revision, session, ready := s.known()
	if !ready || session == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dialTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, s.endpoint.URL, nil)
	if err != nil {
		return
	}
	message{revision: revision, session: session}.setHeaders(req.Header)
	if resp, err := s.do(req); err == nil {
		_ = drain(resp)
		_ = resp.Body.Close()
	}
}

// listen opens the stream of what the server says unasked.
func (s *session) listen(ctx context.Context) (*http.Response, error) {
	if _, err := s.message(ctx, outgoing{}); err != nil { // opens the session
		return nil, err
	}
	revision, session, _ := s.known()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.endpoint.URL, nil)
	if err != nil {
		return nil, err
	}
	message{revision: revision, session: session}.setHeaders(req.Header)
	req.Header.Del("Content-Type")
	req.Header.Set("Accept", "text/event-stream")
	resp, err := s.do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK || contentType(resp) != "text/event-stream" {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%w %d", errStatus, resp.StatusCode)
	}
	return resp, nil
}

var errStatus = errors.New("server answered with HTTP status")

func contentType(resp *http.Response) string {
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	return strings.TrimSpace(kind)
}

// readAnswer finds the answer to a message in a JSON body or an event stream.
func (s *session) readAnswer(ctx context.Context, resp *http.Response, m message, r *relay) (json.RawMessage, error) {
	kind := contentType(resp)
	if m.session != "" && resp.StatusCode == http.StatusNotFound {
		return nil, errSession
	}
	if resp.StatusCode != http.StatusOK && kind != "application/json" {
		return nil, fmt.Errorf("%w %d", errStatus, resp.StatusCode)
	}
	if kind == "text/event-stream" {
		events := newEvents(ctx, resp.Body, maxAnswer)
		for {
			data, err := events.next()
			if err != nil {
				return nil, fmt.Errorf("event stream: %w", err)
			}
			raw, ours, err := s.takeAnswer(ctx, data, m, r)
			if ours {
				settle(resp.Body)
			}
			if err != nil || ours {
				return raw, err
			}
		}
	}
	b, err := readAll(ctx, resp.Body, maxAnswer)
	if err != nil {
		return nil, err
	}
	raw, ours, err := s.takeAnswer(ctx, b, m, r)
	if err == nil && !ours || err != nil && resp.StatusCode != http.StatusOK && !isRPC(err) {
		err = fmt.Errorf("%w %d", errStatus, resp.StatusCode)
	}
	return raw, err
}

// settle reads a stream to its end, which is near after the answer: then the
// connection can be used again.
func settle(body io.ReadCloser) {
	stop := time.AfterFunc(50*time.Millisecond, func() { _ = body.Close() })
	defer stop.Stop()
	_, _ = io.Copy(io.Discard, io.LimitReader(body, 4<<10))
}

func isRPC(err error) bool {
	var fault *rpcError
	return errors.As(err, &fault)
}

// takeAnswer reads a message; ours is the answer to m.
func (s *session) takeAnswer(ctx context.Context, b []byte, m message, r *relay) (raw json.RawMessage, ours bool, err error) {
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, false, nil // an event that only keeps the stream open
	}
	a, err := parseAnswer(b)
	if err == nil && s.endpoint.link.g.leaks(s.endpoint.Secrets, b) {
		err = errLeak
	}
	if err != nil {
		return nil, false, err
	}
	switch {
	case a.Method != "" && r != nil:
		return nil, false, r.receive(ctx, s, m.id, a)
	case a.Method != "" && len(a.ID) > 0:
		return nil, false, fmt.Errorf("server asks for %s: %w", clip(a.Method, 80), errTooOdd)
	case a.Method != "":
		return nil, false, nil
	case a.Error != nil:
		fault := rpcErrorf(http.StatusOK, a.Error.Code, "%s", a.Error.Message)
		if len(a.Error.Data) > 0 && len(a.Error.Data) < maxErrorData {
			fault.Data = a.Error.Data
		}
		return nil, true, fault
	case string(a.ID) != strconv.Itoa(m.id) || len(a.Result) == 0:
		return nil, false, fmt.Errorf("answer to another request: %w", errTooOdd)
	}
	return a.Result, true, nil
}

// maxErrorData bounds what comes along with a server's error.
const maxErrorData = 4 << 10
