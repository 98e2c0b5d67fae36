package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"omega/internal/strictjson"
	"omega/policy"
)

const (
	// freshFor is how long a server's tool list is believed.
	freshFor = 5 * time.Second
	// maxPages bounds the pages of a tool list.
	maxPages = 16
)

// server is one agent's use of one MCP server: a session of its own, so that
// agents cannot meet in it.
type server struct {
	policy.Server
	pins    map[string]pin
	client  *http.Client
	timeout time.Duration
	now     func() time.Time

	mu       sync.Mutex // guards what follows, and makes one handshake at a time
	ready    bool
	revision string
	session  string
	next     int
	offered  map[string]pin
	fetched  time.Time
}

var errSession = errors.New("server ended the session")

// tools returns what the server offers now, or offered a moment ago.
func (s *server) tools(ctx context.Context, anew bool) (map[string]pin, error) {
	s.mu.Lock()
	fresh := s.offered != nil && s.now().Sub(s.fetched).Abs() < freshFor
	offered := s.offered
	s.mu.Unlock()
	if fresh && !anew {
		return offered, nil
	}
	offered, err := s.fetchTools(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.offered, s.fetched = offered, s.now()
	s.mu.Unlock()
	return offered, nil
}

func (s *server) fetchTools(ctx context.Context) (map[string]pin, error) {
	out, cursor := map[string]pin{}, ""
	for range maxPages {
		params := map[string]any{}
		if cursor != "" {
			params["cursor"] = cursor
		}
		raw, err := s.ask(ctx, "tools/list", "", params, nil)
		if err != nil {
			return nil, err
		}
		if cursor, err = addPage(out, raw); err != nil {
			return nil, err
		}
		if cursor == "" {
			return out, nil
		}
	}
	return nil, fmt.Errorf("tool list of %s: %w", s.Name, errTooLong)
}

// addPage reads one page of a tool list and returns where the next begins.
func addPage(out map[string]pin, raw json.RawMessage) (string, error) {
	var page struct {
		Tools []struct {
			Name        string          `json:"name"`
			Description string          `json:"description"`
			InputSchema json.RawMessage `json:"inputSchema"`
		} `json:"tools"`
		NextCursor string `json:"nextCursor"`
	}
	limits := strictjson.Limits{MaxBytes: maxAnswer, MaxDepth: maxAnswerDepth, AllowUnknown: true}
	if err := strictjson.Decode(raw, &page, limits); err != nil {
		return "", fmt.Errorf("tool list: %w", err)
	}
	for _, t := range page.Tools {
		if _, twice := out[t.Name]; twice {
			return "", fmt.Errorf("tool list: %s is listed twice", clip(t.Name, 80))
		}
		out[t.Name] = pin{Name: t.Name, Description: t.Description, InputSchema: t.InputSchema}
	}
	return page.NextCursor, nil
}

// call carries out one tool call and returns its result.
func (s *server) call(ctx context.Context, tool string, args json.RawMessage, headers map[string]string) (map[string]any, error) {
	raw, err := s.ask(ctx, "tools/call", tool, map[string]any{"name": tool, "arguments": args}, headers)
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	limits := strictjson.Limits{MaxBytes: maxAnswer, MaxDepth: maxAnswerDepth}
	if err := strictjson.Decode(raw, &fields, limits); err != nil || fields == nil {
		return nil, fmt.Errorf("tool result is not an object: %w", errors.Join(err, errTooOdd))
	}
	if kind, ok := fields["resultType"]; ok && string(kind) != `"complete"` {
		return nil, fmt.Errorf("tool wants more input, which the gateway does not pass: %w", errTooOdd)
	}
	result := map[string]any{}
	for name, value := range fields {
		if name != "_meta" && name != "resultType" {
			result[name] = value
		}
	}
	return result, nil
}

var errTooOdd = errors.New("answer breaks the protocol")

// ask makes one request within the time limit, after a handshake if there was
// none; a server that forgot the session is greeted once more.
func (s *server) ask(ctx context.Context, method, name string, params map[string]any, headers map[string]string) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	for attempt := 0; ; attempt++ {
		m, err := s.message(ctx, method, name, params, headers)
		if err != nil {
			return nil, err
		}
		raw, err := s.post(ctx, m)
		if errors.Is(err, errSession) && attempt == 0 {
			s.mu.Lock()
			s.ready = false
			s.mu.Unlock()
			continue
		}
		return raw, err
	}
}

// message is one request to the server.
type message struct {
	id                int // 0 for a notification
	method, name      string
	params            map[string]any
	headers           map[string]string
	revision, session string
}

// message gives the request an id, and greets the server first if need be.
func (s *server) message(ctx context.Context, method, name string, params map[string]any, headers map[string]string) (message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ready {
		if err := s.greet(ctx); err != nil {
			return message{}, err
		}
	}
	s.next++
	return message{id: s.next, method: method, name: name, params: params, headers: headers,
		revision: s.revision, session: s.session}, nil
}

// greet finds the newest revision that both speak: discovery as of 2026-07-28,
// and the older handshake with any server that does not know it.
func (s *server) greet(ctx context.Context) error {
	s.session, s.revision, s.offered = "", "", nil
	s.next++
	raw, err := s.post(ctx, message{id: s.next, method: "server/discover", params: map[string]any{}, revision: rev2026})
	var fault *rpcError
	if err == nil && supports2026(raw) {
		s.revision, s.ready = rev2026, true
		return nil
	}
	if err != nil && !errors.As(err, &fault) && !errors.Is(err, errStatus) && !errors.Is(err, errSession) {
		return err
	}
	return s.initialize(ctx)
}

func supports2026(raw json.RawMessage) bool {
	var r struct {
		Supported []string `json:"supportedVersions"`
	}
	limits := strictjson.Limits{MaxBytes: maxAnswer, MaxDepth: maxAnswerDepth, AllowUnknown: true}
	if strictjson.Decode(raw, &r, limits) != nil {
		return false
	}
	for _, v := range r.Supported {
		if v == rev2026 {
			return true
		}
	}
	return false
}

// initialize is the handshake of 2025-11-25 and 2025-06-18.
func (s *server) initialize(ctx context.Context) error {
	s.next++
	m := message{id: s.next, method: "initialize", params: map[string]any{
		"protocolVersion": rev2025, "capabilities": map[string]any{}, "clientInfo": clientInfo(),
	}}
	req, err := s.request(ctx, m)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := readAnswer(resp, m.id, false)
	if err != nil {
		return err
	}
	var r struct {
		Revision string `json:"protocolVersion"`
	}
	limits := strictjson.Limits{MaxBytes: maxAnswer, MaxDepth: maxAnswerDepth, AllowUnknown: true}
	if err := strictjson.Decode(raw, &r, limits); err != nil {
		return fmt.Errorf("initialize: %w", err)
	}
	if r.Revision != rev2025 && r.Revision != rev0618 {
		return fmt.Errorf("server speaks MCP %s: %w", clip(r.Revision, 40), errTooOdd)
	}
	s.revision, s.session = r.Revision, resp.Header.Get(headerSession)
	if len(s.session) > 512 {
		return fmt.Errorf("session id: %w", errTooLong)
	}
	if _, err := s.post(ctx, message{method: "notifications/initialized", revision: s.revision, session: s.session}); err != nil {
		return err
	}
	s.ready = true
	return nil
}

func clientInfo() map[string]any {
	return map[string]any{"name": "omega-gateway", "version": "1"}
}
