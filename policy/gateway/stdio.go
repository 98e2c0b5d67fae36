package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// startPause is the least time between two starts of one server process: one
// that ends at once must not keep the platform busy with starting it.
const startPause = 2 * time.Second

// writeTime is how long a process may leave a message unread.
const writeTime = 30 * time.Second

// stdio makes one server process that speaks MCP over its standard input and
// output (MCP 2025-11-25, basic/transports, stdio) look like a server with
// streamable HTTP, so that every rule for those holds for it too. It belongs to
// one agent's link: no other agent ever speaks to the same process.
//
// A process has one conversation. The agent's sessions share it: they are
// greeted with what the process said to the first, and their requests are
// numbered anew.
type stdio struct {
	open func(ctx context.Context) (io.ReadWriteCloser, error) // starts the process
	tab  func() *tab                                           // what its output takes of the room
	// before is called for each message to the process and after for each from
	// it: labels travel with both.
	before, after func()

	mu      sync.Mutex // guards what follows
	proc    *process
	starts  int
	started time.Time
	closed  bool
}

// errEnded reports a process that ended, or was ended, with questions open.
var errEnded = errors.New("the server's process ended")

// RoundTrip carries one message of the streamable HTTP transport.
func (s *stdio) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	if req.Method == http.MethodDelete { // a session ends; the process stays
		return plainResponse(req, http.StatusNoContent, nil), nil
	}
	p, err := s.process(req.Context())
	if err != nil {
		return nil, err
	}
	if id := req.Header.Get(headerSession); id != "" && id != p.name {
		return plainResponse(req, http.StatusNotFound, nil), nil // the process that it was with has ended
	}
	if req.Method == http.MethodGet {
		return p.listen(req), nil
	}
	m := map[string]json.RawMessage{}
	body, err := io.ReadAll(io.LimitReader(req.Body, maxAnswer))
	if err == nil {
		err = json.Unmarshal(body, &m) // written by this gateway
	}
	if err != nil {
		return nil, err
	}
	s.before()
	return p.carry(req, m)
}

// process returns the one that runs, or starts one.
func (s *stdio) process(ctx context.Context) (*process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, errEnded
	case s.proc != nil && !s.proc.ended():
		return s.proc, nil
	case s.starts > 0 && time.Since(s.started) < startPause:
		return nil, errResting
	}
	s.starts++
	s.started = time.Now()
	rw, err := s.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("starting the server: %w", err)
	}
	s.proc = newProcess("stdio-"+strconv.Itoa(s.starts), rw, s.tab(), s.after)
	return s.proc, nil
}

// close ends the process, and no other is started.
func (s *stdio) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.proc != nil {
		s.proc.end(errEnded)
		<-s.proc.done
	}
}
