package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"

	"omega/internal/wire"
	"omega/policy/gateway"
)

// observed answers with what the gateway tells of all its calls, without their
// contents.
func (g *gatewayChild) observed(name string, tell func(*gateway.Gateway) ([]byte, error)) wire.Handler {
	return func(_ context.Context, _ json.RawMessage, files []*os.File) (any, []*os.File, error) {
		for _, f := range files {
			_ = f.Close()
		}
		g.mu.Lock()
		gw := g.gw
		g.mu.Unlock()
		if gw == nil {
			return nil, nil, errNotStarted
		}
		b, err := tell(gw)
		if err != nil {
			return nil, nil, err
		}
		f, err := memoryFile(name, b)
		if err != nil {
			return nil, nil, err
		}
		return observeReply{}, []*os.File{f}, nil
	}
}

func metrics(g *gateway.Gateway) ([]byte, error) {
	var b bytes.Buffer
	err := g.Metrics(&b)
	return b.Bytes(), err
}

func traces(g *gateway.Gateway) ([]byte, error) { return g.Traces() }

// observe asks the gateway for metrics or traces.
func (f *frontChild) observe(op string) func(ctx context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) {
		var reply observeReply
		files, err := f.gateway.Call(ctx, op, nothing{}, &reply)
		return oneFile(files, true, err)
	}
}
