package gateway

import (
	"context"
	"encoding/hex"
	"net/http"
	"strings"

	"omega/internal/labelhash"
)

// traceHeaders are W3C's: what they carry is the agent's own and stays here.
var traceHeaders = []string{"Traceparent", "Tracestate", "Baggage"}

// trace is an agent's trace as it appears in spans: mapped under a key of this
// boot and its instance, so that calls which the agent says belong together do
// so, and no number of the agent's choice reaches who observes or an upstream.
type trace struct {
	id     [16]byte
	parent [8]byte
}

type traceKey struct{}

// traced keeps what a request says of its trace (W3C Trace Context, section
// 3.2); anything but that form is as if it said nothing.
func (l *link) traced(ctx context.Context, h http.Header) context.Context {
	values := h["Traceparent"]
	if len(values) != 1 {
		return ctx
	}
	parts := strings.Split(values[0], "-")
	if len(parts) != 4 || parts[0] != "00" || len(parts[3]) != 2 {
		return ctx
	}
	id, errID := hex.DecodeString(parts[1])
	parent, errParent := hex.DecodeString(parts[2])
	if errID != nil || errParent != nil || len(id) != 16 || len(parent) != 8 {
		return ctx
	}
	key, own := l.g.observer.key[:], []byte(l.agent.Instance)
	a := labelhash.Sum256("omega/trace/v1", key, own, id)
	b := labelhash.Sum256("omega/span/v1", key, own, id, parent)
	return context.WithValue(ctx, traceKey{}, trace{[16]byte(a[:16]), [8]byte(b[:8])})
}

func traceOf(ctx context.Context) (trace, bool) {
	t, ok := ctx.Value(traceKey{}).(trace)
	return t, ok
}
