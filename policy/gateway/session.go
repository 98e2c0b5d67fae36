package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"omega/internal/strictjson"
)

const (
	// maxPages bounds the pages of a list.
	maxPages = 16
	// askTime is how long a server's question to the agent may stay open:
	// people answer some of them.
	askTime = 10 * time.Minute
)

// session is one conversation with a server. Agents never share one, so they
// cannot meet in it.
type session struct {
	endpoint *endpoint
	client   *http.Client
	timeout  time.Duration
	prefer   string         // the agent's revision
	caps     map[string]any // what the agent can be asked for, as far as the policy lets it
	used     time.Time      // guarded by the endpoint

	mu       sync.Mutex // guards what follows, and makes one handshake at a time
	ready    bool
	revision string
	id       string
	next     int
}

var (
	errSession = errors.New("server ended the session")
	errTooOdd  = errors.New("answer breaks the protocol")
)

// outgoing is one request to a server, as decided.
type outgoing struct {
	method, name string
	params       map[string]any
	headers      map[string]string // mirrors of arguments
	meta         map[string]any    // of 2026-07-28: capabilities, log level
	progress     bool              // the agent wants to hear of it
}

func (s *session) fetchTools(ctx context.Context) (map[string]pin, error) {
	out := map[string]pin{}
	err := s.eachPage(ctx, outgoing{method: "tools/list"}, func(raw json.RawMessage) (string, error) { return addPage(out, raw) })
	return out, err
}

// eachPage asks for all pages of a list.
func (s *session) eachPage(ctx context.Context, out outgoing, take func(json.RawMessage) (string, error)) error {
	cursor, size := "", 0
	for range maxPages {
		out.params = map[string]any{}
		if cursor != "" {
			out.params["cursor"] = cursor
		}
		raw, err := s.ask(ctx, out, nil)
		if err != nil {
			return err
		}
		if size += len(raw); size > maxAnswer { // all pages are held together
			break
		}
		if cursor, err = take(raw); err != nil || cursor == "" {
			return err
		}
	}
	return fmt.Errorf("%s of %s: %w", out.method, s.endpoint.Name, errTooLong)
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
		fixed, err := pin{Name: t.Name, Description: t.Description, InputSchema: t.InputSchema}.fixed()
		if err != nil {
			return "", fmt.Errorf("tool list: %w", err)
		}
		out[t.Name] = fixed
	}
	return page.NextCursor, nil
}

// ask makes one request, after a handshake if there was none; a server that
// forgot the session is greeted once more. The time limit begins again with
// every message of the server, since a tool may report for long.
func (s *session) ask(ctx context.Context, out outgoing, r *relay) (json.RawMessage, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(s.timeout, func() { cancel(context.DeadlineExceeded) })
	defer idle.Stop()
	if r != nil {
		r.extend = func(d time.Duration) { idle.Reset(max(d, s.timeout)) }
	}
	for attempt := 0; ; attempt++ {
		m, err := s.message(ctx, out)
		if err == nil {
			var raw json.RawMessage
			if raw, err = s.post(ctx, m, r); err == nil {
				return raw, nil
			}
		}
		if errors.Is(err, errSession) && attempt == 0 && (r == nil || !r.began()) {
			s.mu.Lock()
			s.ready = false
			s.mu.Unlock()
			continue
		}
		if attempt == 0 && r == nil && repeatable(err) { // a list: asking twice does nothing twice
			continue
		}
		if cause := context.Cause(ctx); errors.Is(cause, context.DeadlineExceeded) {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		return nil, err
	}
}

// repeatable says whether a request that does nothing may be sent once more: the
// connection broke, and nobody waited for long.
func repeatable(err error) bool {
	var broken *net.OpError
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.As(err, &broken) && broken.Op != "dial"
}

// message is one request to the server, in the form of its session.
type message struct {
	outgoing
	id                int // 0 for a notification
	revision, session string
}

// message gives the request an id, and greets the server first if need be.
func (s *session) message(ctx context.Context, out outgoing) (message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ready {
		if err := s.greet(ctx); err != nil {
			return message{}, err
		}
	}
	s.next++
	return message{outgoing: out, id: s.next, revision: s.revision, session: s.id}, nil
}

// greet opens the conversation in the agent's revision where the server has it:
// then what passes need not be translated.
func (s *session) greet(ctx context.Context) error {
	s.id, s.revision = "", ""
	first, second := s.initialize, s.discover
	if s.prefer == rev2026 {
		first, second = s.discover, s.initialize
	}
	err := first(ctx)
	var fault *rpcError
	if errors.As(err, &fault) || errors.Is(err, errStatus) || errors.Is(err, errSession) || errors.Is(err, errTooOdd) {
		err = second(ctx)
	}
	s.ready = err == nil
	return err
}

// discover is the beginning of 2026-07-28.
func (s *session) discover(ctx context.Context) error {
	s.next++
	raw, err := s.post(ctx, message{outgoing: outgoing{method: "server/discover"}, id: s.next, revision: rev2026}, nil)
	if err != nil {
		return err
	}
	var r struct {
		Supported []string `json:"supportedVersions"`
	}
	limits := strictjson.Limits{MaxBytes: maxAnswer, MaxDepth: maxAnswerDepth, AllowUnknown: true}
	if err := strictjson.Decode(raw, &r, limits); err != nil {
		return fmt.Errorf("discovery: %w: %w", errTooOdd, err)
	}
	for _, v := range r.Supported {
		if v == rev2026 {
			s.revision = rev2026
			return nil
		}
	}
	return fmt.Errorf("server does not speak MCP %s: %w", rev2026, errTooOdd)
}

// initialize is the handshake of 2025-11-25 and 2025-06-18.
func (s *session) initialize(ctx context.Context) error {
	s.next++
	prefer, caps := s.prefer, s.caps
	if prefer == rev2026 {
		prefer = rev2025
	}
	if caps == nil {
		caps = map[string]any{}
	}
	m := message{outgoing: outgoing{method: "initialize", params: map[string]any{
		"protocolVersion": prefer, "capabilities": caps, "clientInfo": clientInfo(),
	}}, id: s.next}
	resp, err := s.send(ctx, m)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := s.readAnswer(ctx, resp, m, nil)
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
	s.revision, s.id = r.Revision, resp.Header.Get(headerSession)
	if len(s.id) > 512 {
		return fmt.Errorf("session id: %w", errTooLong)
	}
	_, err = s.post(ctx, message{outgoing: outgoing{method: "notifications/initialized"}, revision: s.revision, session: s.id}, nil)
	return err
}

// known returns the session's own name and revision once it has been opened.
func (s *session) known() (revision, id string, ready bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.revision, s.id, s.ready
}

func clientInfo() map[string]any {
	return map[string]any{"name": "omega-gateway", "version": "1"}
}
