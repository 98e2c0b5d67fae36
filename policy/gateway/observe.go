package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"omega/internal/strictjson"
)

const (
	// maxSpans is how many finished calls are kept for whoever observes.
	maxSpans = 512
	// maxSeries bounds the time series: agents and actions come from the policy,
	// instances do not appear.
	maxSeries = 4096
)

// buckets are the upper bounds of the duration histogram, in seconds.
var buckets = [...]float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60}

// series is one agent's use of one action, with one result.
type series struct{ agent, action, result string }

// observer counts what the gateway does. It knows no contents: neither
// arguments nor answers, and no resource beyond the policy's own names.
type observer struct {
	key [32]byte // of this boot; it hides agents' own names of traces

	mu     sync.Mutex // guards what follows
	counts map[series]uint64
	bytes  map[series]uint64
	spent  map[string]*histogram // by action
	spans  []span                // a ring
	next   int
}

type histogram struct {
	counts [len(buckets) + 1]uint64
	sum    float64
}

// span is one permitted call in OpenTelemetry's sense.
type span struct {
	trace          [16]byte
	id             [8]byte
	parent         string // in hex, where the agent named one
	agent, action  string
	resource       string
	begin, end     time.Time
	failed, denied bool
}

// decided counts a decision.
func (o *observer) decided(agent, action, word string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count(series{agent, action, word})
}

func (o *observer) count(s series) {
	if o.counts == nil {
		o.counts, o.bytes, o.spent = map[series]uint64{}, map[series]uint64{}, map[string]*histogram{}
	}
	if _, known := o.counts[s]; known || len(o.counts) < maxSeries {
		o.counts[s]++
	}
}

// finished counts a call's end and keeps it as a span.
func (o *observer) finished(ctx context.Context, i *intent, end time.Time, r result) {
	agent, action, begin := i.link.agent.Name, i.input.Action, i.begun
	s := span{agent: agent, action: action, resource: i.input.Resource, begin: begin, end: end, failed: r.Status == "error", denied: r.Status == "refused"}
	if t, ok := traceOf(ctx); ok {
		s.trace, s.parent = t.id, hex.EncodeToString(t.parent[:])
	} else {
		_, _ = rand.Read(s.trace[:]) // never fails (crypto/rand)
	}
	_, _ = rand.Read(s.id[:])
	o.mu.Lock()
	defer o.mu.Unlock()
	k := series{agent, action, r.Status}
	o.count(k)
	if _, known := o.bytes[k]; known || len(o.bytes) < maxSeries {
		o.bytes[k] += uint64(max(0, r.Bytes))
	}
	h := o.spent[action]
	if h == nil {
		h = &histogram{}
		o.spent[action] = h
	}
	h.observe(max(0, end.Sub(begin).Seconds()))
	if len(o.spans) < maxSpans {
		o.spans = append(o.spans, s)
		return
	}
	o.spans[o.next%maxSpans] = s
	o.next++
}

func (h *histogram) observe(seconds float64) {
	h.sum += seconds
	for i, most := range buckets {
		if seconds <= most {
			h.counts[i]++
			return
		}
	}
	h.counts[len(buckets)]++
}

// Metrics writes what was counted in Prometheus' text form.
func (g *Gateway) Metrics(w io.Writer) error {
	o := &g.observer
	o.mu.Lock()
	defer o.mu.Unlock()
	var b strings.Builder
	b.WriteString("# HELP omega_gateway_calls_total Decisions and outcomes by agent, action and result.\n# TYPE omega_gateway_calls_total counter\n")
	for _, k := range sortedSeries(o.counts) {
		fmt.Fprintf(&b, "omega_gateway_calls_total{agent=%q,action=%q,result=%q} %d\n", k.agent, k.action, k.result, o.counts[k])
	}
	b.WriteString("# HELP omega_gateway_bytes_total Bytes given to agents.\n# TYPE omega_gateway_bytes_total counter\n")
	for _, k := range sortedSeries(o.bytes) {
		fmt.Fprintf(&b, "omega_gateway_bytes_total{agent=%q,action=%q,result=%q} %d\n", k.agent, k.action, k.result, o.bytes[k])
	}
	b.WriteString("# HELP omega_gateway_call_seconds From the decision to the outcome.\n# TYPE omega_gateway_call_seconds histogram\n")
	for _, action := range sortedKeys(o.spent) {
		h, n := o.spent[action], uint64(0)
		for i, most := range buckets {
			n += h.counts[i]
			fmt.Fprintf(&b, "omega_gateway_call_seconds_bucket{action=%q,le=%q} %d\n", action, strconv.FormatFloat(most, 'g', -1, 64), n)
		}
		n += h.counts[len(buckets)]
		fmt.Fprintf(&b, "omega_gateway_call_seconds_bucket{action=%q,le=\"+Inf\"} %d\n", action, n)
		fmt.Fprintf(&b, "omega_gateway_call_seconds_sum{action=%q} %g\nomega_gateway_call_seconds_count{action=%q} %d\n", action, h.sum, action, n)
	}
	b.WriteString("# HELP omega_gateway_upstream_resting Whether an upstream that failed repeatedly is left alone.\n# TYPE omega_gateway_upstream_resting gauge\n")
	for _, name := range sortedKeys(g.guards) {
		resting := 0
		if g.guards[name].resting() {
			resting = 1
		}
		fmt.Fprintf(&b, "omega_gateway_upstream_resting{upstream=%q} %d\n", name, resting)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func sortedSeries(m map[series]uint64) []series {
	byName := map[string]series{}
	for k := range m {
		byName[k.agent+"\x00"+k.action+"\x00"+k.result] = k
	}
	var out []series
	for _, name := range sortedKeys(byName) {
		out = append(out, byName[name])
	}
	return out
}

// Traces gives the latest calls as spans in OpenTelemetry's JSON form
// (OTLP/HTTP, ExportTraceServiceRequest).
func (g *Gateway) Traces() ([]byte, error) {
	g.observer.mu.Lock()
	defer g.observer.mu.Unlock()
	spans := []any{}
	for _, s := range g.observer.spans {
		status := 1 // STATUS_CODE_OK
		if s.failed || s.denied {
			status = 2 // STATUS_CODE_ERROR
		}
		out := map[string]any{
			"traceId": hex.EncodeToString(s.trace[:]), "spanId": hex.EncodeToString(s.id[:]), "name": s.action, "kind": 3, // SPAN_KIND_CLIENT
			"startTimeUnixNano": strconv.FormatInt(s.begin.UnixNano(), 10), "endTimeUnixNano": strconv.FormatInt(s.end.UnixNano(), 10),
			"status":     map[string]any{"code": status},
			"attributes": []any{attribute("omega.agent", s.agent), attribute("omega.resource", s.resource)},
		}
		if s.parent != "" {
			out["parentSpanId"] = s.parent
		}
		spans = append(spans, out)
	}
	return strictjson.Canonical(map[string]any{"resourceSpans": []any{map[string]any{
		"resource":   map[string]any{"attributes": []any{attribute("service.name", "omega-gateway")}},
		"scopeSpans": []any{map[string]any{"scope": map[string]any{"name": "omega/policy/gateway"}, "spans": spans}},
	}}})
}

func attribute(key, value string) map[string]any {
	return map[string]any{"key": key, "value": map[string]any{"stringValue": value}}
}
