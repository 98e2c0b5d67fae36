package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"omega/internal/wire"
)

// nothing is the body of a request or an answer that has none.
type nothing struct{}

// errNotStarted answers requests that come before PID 1's start message.
var errNotStarted = errors.New("not started yet")

// handle makes a handler of a function of typed messages. Files that came along
// unasked are closed.
func handle[Req, Reply any](f func(ctx context.Context, req Req) (Reply, error)) wire.Handler {
	return handleFile(func(ctx context.Context, req Req, file *os.File) (Reply, error) {
		if file != nil {
			_ = file.Close()
		}
		return f(ctx, req)
	})
}

// handleFile is handle for requests that come with one file; file is nil where
// there was none, and is f's to close.
func handleFile[Req, Reply any](f func(ctx context.Context, req Req, file *os.File) (Reply, error)) wire.Handler {
	return handleFiles(func(ctx context.Context, req Req, files []*os.File) (Reply, error) {
		var file *os.File
		for i, extra := range files {
			if i == 0 {
				file = extra
				continue
			}
			_ = extra.Close()
		}
		return f(ctx, req, file)
	})
}

// handleFiles is handle for requests that come with files, which are f's to close.
func handleFiles[Req, Reply any](f func(ctx context.Context, req Req, files []*os.File) (Reply, error)) wire.Handler {
	return func(ctx context.Context, body json.RawMessage, files []*os.File) (any, []*os.File, error) {
		if len(body) == 0 {
			body = json.RawMessage("{}")
		}
		req, err := wire.Body[Req](body)
		if err != nil {
			for _, f := range files {
				_ = f.Close()
			}
			return nil, nil, err
		}
		reply, err := f(ctx, req, files)
		if err != nil {
			return nil, nil, err
		}
		return reply, nil, nil
	}
}

// handleBoth is handleFiles for answers that come with files too, which are
// closed once they have been sent.
func handleBoth[Req, Reply any](f func(ctx context.Context, req Req, files []*os.File) (Reply, []*os.File, error)) wire.Handler {
	return func(ctx context.Context, body json.RawMessage, files []*os.File) (any, []*os.File, error) {
		var out []*os.File
		reply, _, err := handleFiles(func(ctx context.Context, req Req, files []*os.File) (reply Reply, err error) {
			reply, out, err = f(ctx, req, files)
			return reply, err
		})(ctx, body, files)
		return reply, out, err
	}
}

// serveAll answers on several channels at once, until one of them ends: a
// channel ends when its other end is gone, and then this child has to go too.
func serveAll(ctx context.Context, c *child, handlers map[string]map[string]wire.Handler) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, len(handlers))
	for name, h := range handlers {
		conn, err := c.channel(name)
		if err != nil {
			return err
		}
		go func() { ended <- fmt.Errorf("channel %s: %w", name, wire.Serve(ctx, conn, h)) }()
	}
	var first error
	for range handlers {
		if err := <-ended; first == nil {
			first = err
			cancel()
		}
	}
	return first
}
