// Package front is the platform's only listener: it serves evidence, the public
// form of the provenance log, and whether the platform is ready, over TLS 1.3.
// It decides nothing and holds no secret but its own TLS and HPKE keys; what it
// serves comes from the signer and the log through functions.
package front

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"omega/attest"
	"omega/policy"
)

const (
	// EvidencePath is where evidence is served; the query is nonce=64 hex digits.
	EvidencePath = "/.well-known/omega/evidence"
	// ReadyPath answers 200 when every deployment of the launch config is
	// admitted and started or refused, and 503 before that.
	ReadyPath = "/.well-known/omega/ready"
	// LogPrefix is the root of the C2SP tlog-tiles tree.
	LogPrefix = "/log/"
)

// requestTimeout bounds how long one request may wait for another child.
const requestTimeout = 30 * time.Second

const (
	// maxLogFiles bounds how many files of the log are held in memory at once: a
	// bundle of entries can have 16 MiB, and agents decide what is in it.
	maxLogFiles = 4
	// smallFile is what a slow reader may hold without counting: all but bundles.
	smallFile = 64 << 10
)

// ErrNotFound reports that the log has no such file (yet).
var ErrNotFound = errors.New("not found")

// A Front serves HTTP for one platform. All fields must be set.
type Front struct {
	// Evidence is the JSON of attest.Evidence for a request; ErrNotFound where
	// what is to be opened is not there.
	Evidence func(ctx context.Context, r attest.Request) ([]byte, error)
	LogFile  func(ctx context.Context, path string) ([]byte, error) // a tlog-tiles path
	Ready    func() bool
	// Agents lists the agents of these names; Output is what one of them wrote
	// last, and Order carries out a deployment or removal. What they refuse is a
	// *Problem.
	Agents func(ctx context.Context, names []string) ([]Agent, error)
	Output func(ctx context.Context, instance, caller string, names []string) ([]string, error)
	Order  func(ctx context.Context, o Order) (*Done, error)
	// Metrics are the gateway's counts in Prometheus' text form, Traces its latest
	// calls as OpenTelemetry's JSON.
	// Invoke hands a caller's request to an agent. Pending and Approve are about
	// the questions that wait for a person, as JSON. A *Problem among the errors
	// is for the caller.
	Invoke          func(ctx context.Context, inv Invocation) (*Answer, error)
	Pending         func(ctx context.Context, callers []string) ([]byte, error)
	Approve         func(ctx context.Context, callers []string, statement []byte) (uint64, error)
	Metrics, Traces func(ctx context.Context) ([]byte, error)
	// Callers says who may do what; nil lets nobody see an agent or the log.
	Callers *Callers
	Log     *slog.Logger
}

// A route is one way in. Who may take it is in the handler.
type route struct {
	pattern string // of http.ServeMux
	handler http.Handler
}

// routes are the ways in beside evidence.
func (f *Front) routes() []route {
	r, orders := newRates(time.Now), f.orders()
	return append(f.askedRoutes(r), []route{
		// TimeoutHandler keeps a copy of each answer: not for large ones.
		{"GET " + ReadyPath, http.TimeoutHandler(http.HandlerFunc(f.ready), requestTimeout, `{"error":"timed out"}`)},
		{"GET " + LogPrefix, f.only(policy.RightObserve, f.logFiles(make(chan struct{}, maxLogFiles)))},
		{"GET " + AgentsPath, f.paced(r, f.granted(policy.RightObserve, f.listAgents))},
		{"GET " + AgentsPath + "/{instance}/output", f.paced(r, f.granted(policy.RightOutput, f.agentOutput))},
		{"POST " + AgentsPath + "/{instance}/stop", f.paced(r, f.granted(policy.RightDeploy, orders))},
		{"GET " + MetricsPath, f.paced(r, f.overview(metricsType, func(ctx context.Context) ([]byte, error) { return f.Metrics(ctx) }))},
		{"GET " + TracesPath, f.paced(r, f.overview("application/json", func(ctx context.Context) ([]byte, error) { return f.Traces(ctx) }))},
		{"POST " + DeployPath, f.paced(r, f.granted(policy.RightDeploy, orders))},
	}...)
}

// Handler returns the routes. What is not listed is 404.
func (f *Front) Handler() http.Handler {
	mux := http.NewServeMux()
	f.evidenceRoutes(mux)
	for _, r := range f.routes() {
		mux.Handle(r.pattern, r.handler)
	}
	return mux
}

func (f *Front) ready(w http.ResponseWriter, _ *http.Request) {
	if !f.Ready() {
		w.Header().Set("Retry-After", "1")
		fail(w, http.StatusServiceUnavailable, "deployments are still being admitted")
		return
	}
	write(w, "application/json", []byte(`{"ready":true}`))
}

// logFiles serves the log, with at most cap(slots) large files at once.
func (f *Front) logFiles(slots chan struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			w.Header().Set("Retry-After", "1")
			fail(w, http.StatusServiceUnavailable, "too many large files of the log are being read; try again")
			return
		}
		release := sync.OnceFunc(func() { <-slots })
		defer release()
		path := strings.TrimPrefix(r.URL.Path, LogPrefix)
		body, err := f.LogFile(ctx, path)
		if len(body) <= smallFile {
			release()
		}
		f.sendLogFile(w, path, body, err)
	}
}

func (f *Front) sendLogFile(w http.ResponseWriter, path string, body []byte, err error) {
	switch {
	case errors.Is(err, ErrNotFound):
		fail(w, http.StatusNotFound, "the log has no such file")
	case err != nil:
		f.Log.Warn("log file", "error", err)
		fail(w, http.StatusServiceUnavailable, "the log is not available right now; try again")
	case path == "checkpoint":
		write(w, "text/plain; charset=utf-8", body)
	default:
		write(w, "application/octet-stream", body)
	}
}

func write(w http.ResponseWriter, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(body) // a client that went away is no error of ours
}

func fail(w http.ResponseWriter, status int, words string) {
	body, _ := json.Marshal(map[string]string{"error": words}) // a map of strings always encodes
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
