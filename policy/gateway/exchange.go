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

	"omega/internal/strictjson"
)

// post sends a message and returns the result of its answer.
func (s *server) post(ctx context.Context, m message) (json.RawMessage, error) {
	req, err := s.request(ctx, m)
	if err != nil {
		return nil, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if m.id == 0 {
		_, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
		if resp.StatusCode/100 != 2 {
			err = fmt.Errorf("%w %d", errStatus, resp.StatusCode)
		}
		return nil, err
	}
	return readAnswer(resp, m.id, m.session != "")
}

// request writes a message in the form of its revision.
func (s *server) request(ctx context.Context, m message) (*http.Request, error) {
	body := map[string]any{"jsonrpc": "2.0", "method": m.method}
	if m.id != 0 {
		body["id"] = m.id
	}
	params := m.params
	if m.revision == rev2026 {
		params = map[string]any{"_meta": map[string]any{
			metaRevision:                                 rev2026,
			"io.modelcontextprotocol/clientInfo":         clientInfo(),
			"io.modelcontextprotocol/clientCapabilities": map[string]any{},
		}}
		for k, v := range m.params {
			params[k] = v
		}
	}
	if params != nil {
		body["params"] = params
	}
	b, err := strictjson.Canonical(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	m.setHeaders(req.Header)
	return req, nil
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

var errStatus = errors.New("server answered with HTTP status")

// readAnswer finds the answer to id in a JSON body or an event stream.
func readAnswer(resp *http.Response, id int, inSession bool) (json.RawMessage, error) {
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	kind = strings.TrimSpace(kind)
	if inSession && resp.StatusCode == http.StatusNotFound {
		return nil, errSession
	}
	if resp.StatusCode != http.StatusOK && kind != "application/json" {
		return nil, fmt.Errorf("%w %d", errStatus, resp.StatusCode)
	}
	if kind == "text/event-stream" {
		events := newEvents(resp.Body, maxAnswer)
		for {
			data, err := events.next()
			if err != nil {
				return nil, fmt.Errorf("event stream: %w", err)
			}
			raw, ours, err := takeAnswer(data, id)
			if err != nil || ours {
				return raw, err
			}
		}
	}
	b, err := readAll(resp.Body, maxAnswer)
	if err != nil {
		return nil, err
	}
	raw, ours, err := takeAnswer(b, id)
	if err == nil && !ours || err != nil && resp.StatusCode != http.StatusOK && !isRPC(err) {
		err = fmt.Errorf("%w %d", errStatus, resp.StatusCode)
	}
	return raw, err
}

func isRPC(err error) bool {
	var fault *rpcError
	return errors.As(err, &fault)
}

// takeAnswer reads a message; notifications are passed over, requests of the
// server to its client are not answered.
func takeAnswer(b []byte, id int) (json.RawMessage, bool, error) {
	a, err := parseAnswer(b)
	if err != nil {
		return nil, false, err
	}
	if a.Method != "" {
		if len(a.ID) > 0 {
			return nil, false, fmt.Errorf("server asks for %s: %w", clip(a.Method, 80), errTooOdd)
		}
		return nil, false, nil
	}
	if a.Error != nil {
		return nil, true, rpcErrorf(http.StatusOK, a.Error.Code, "the server says: %s", a.Error.Message)
	}
	if string(a.ID) != strconv.Itoa(id) || len(a.Result) == 0 {
		return nil, false, fmt.Errorf("answer to another request: %w", errTooOdd)
	}
	return a.Result, true, nil
}
