package front

import (
	"context"
	"net/http"

	"omega/policy"
)

const (
	// MetricsPath is where Prometheus looks for metrics.
	MetricsPath = "/metrics"
	// TracesPath has the latest calls as OTLP/HTTP's JSON would export them. They
	// are fetched, not sent: the platform tells them to nobody by itself.
	TracesPath = "/v1/traces"

	// metricsType is Prometheus' text form.
	metricsType = "text/plain; version=0.0.4; charset=utf-8"
)

// overview serves what is about all agents together, to who may observe them all.
func (f *Front) overview(contentType string, get func(ctx context.Context) ([]byte, error)) http.HandlerFunc {
	return f.granted(policy.RightObserve, func(w http.ResponseWriter, r *http.Request, who Who) {
		if len(who.Observed()) != len(who.agents) {
			f.problem(w, &Problem{http.StatusForbidden, "no_right", "this is about all agents, and you may observe some of them",
				"ask the owner of the platform's policy for the right observe on all agents"})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		body, err := get(ctx)
		if err != nil {
			f.problem(w, err)
			return
		}
		write(w, contentType, body)
	})
}
