package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// maxInFlight bounds the requests one connection may have open; more wait in
// the socket.
const maxInFlight = 64

// Handler answers one operation. The files it receives are its own to close.
// The files it returns are closed once they have been sent.
type Handler func(ctx context.Context, body json.RawMessage, files []*os.File) (reply any, replyFiles []*os.File, err error)

// Serve answers requests until ctx ends or the peer is gone (io.EOF). It
// returns after its last handler has.
func Serve(ctx context.Context, c *Conn, handlers map[string]Handler) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, c.interrupt)
	s := &server{conn: c, handlers: handlers, slots: make(chan struct{}, maxInFlight)}
	err := s.loop(ctx)
	if cause := ctx.Err(); cause != nil {
		err = cause
	}
	stop()
	cancel()
	if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		// The peer is gone or unusable: a handler that waits to send must not.
		_ = c.Close()
	}
	s.wg.Wait()
	return err
}

type server struct {
	conn     *Conn
	handlers map[string]Handler
	slots    chan struct{}
	wg       sync.WaitGroup
}

func (s *server) loop(ctx context.Context) error {
	for {
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		msg, files, err := s.conn.receive()
		if err != nil {
			return err
		}
		f, err := parseFrame(msg)
		if err == nil && (f.Op == "" || f.Error != "") {
			err = fmt.Errorf("%w: not a request", ErrProtocol)
		}
		if err != nil {
			closeAll(files)
			return err
		}
		s.wg.Add(1)
		go s.answer(ctx, f, files)
	}
}

// answer runs one handler and sends its reply. A reply that cannot be sent
// leaves the loop to notice that the peer is gone.
func (s *server) answer(ctx context.Context, f *frame, files []*os.File) {
	defer s.wg.Done()
	defer func() { <-s.slots }()
	reply, replyFiles, err := s.call(ctx, f, files)
	defer closeAll(replyFiles)
	if err == nil {
		var msg []byte
		if msg, err = (&frame{ID: f.ID}).encode(reply); err == nil {
			if err = s.conn.send(msg, replyFiles); err == nil || !errors.Is(err, ErrTooLarge) {
				return
			}
		}
	}
	msg, err := (&frame{ID: f.ID, Error: errorText(err)}).encode(nil)
	if err == nil {
		_ = s.conn.send(msg, nil)
	}
}

func (s *server) call(ctx context.Context, f *frame, files []*os.File) (any, []*os.File, error) {
	h := s.handlers[f.Op]
	if h == nil {
		closeAll(files)
		return nil, nil, fmt.Errorf("unknown operation %.64q", f.Op)
	}
	return h(ctx, f.Body, files)
}

// errorText is never empty: an empty error would read as success.
func errorText(err error) string {
	text := err.Error()
	if text == "" {
		return "unnamed error"
	}
	return text[:min(len(text), maxError)]
}

// Gone says whether err means that the peer has closed its end.
func Gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed)
}
