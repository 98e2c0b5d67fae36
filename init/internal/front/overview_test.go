package front

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"omega/policy"
)

func TestMetricsAndTracesAreForWhoMayObserveAllAgents(t *testing.T) {
	tests := []struct {
		name, path  string
		observes    []string
		fails       bool
		status      int
		body, ctype string
	}{
		{"metrics", MetricsPath, []string{"*"}, false, 200, "omega_gateway_calls_total", "text/plain; version=0.0.4"},
		{"traces", TracesPath, []string{"*"}, false, 200, "resourceSpans", "application/json"},
		{"one of two agents", MetricsPath, []string{"a"}, false, 403, "about all agents", "application/json"},
		{"one of two agents, traces", TracesPath, []string{"a"}, false, 403, "about all agents", "application/json"},
		{"no right at all", MetricsPath, nil, false, 401, "observe", "application/json"},
		{"a gateway that does not answer", MetricsPath, []string{"*"}, true, 503, "try again", "application/json"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := &policy.Document{Agents: []policy.AgentRule{{Name: "a"}, {Name: "b"}}, Callers: []policy.Caller{{Name: "any", Anonymous: true, Rights: []string{policy.RightObserve}, Agents: tt.observes}}}
			if tt.observes == nil {
				d.Callers = []policy.Caller{{Name: "nobody"}}
			}
			f := testFront()
			var err error
			if f.Callers, err = NewCallers(d, time.Now); err != nil {
				t.Fatal(err)
			}
			tell := func(text string) func(context.Context) ([]byte, error) {
				return func(context.Context) ([]byte, error) {
					if tt.fails {
						return nil, errors.New("inner detail")
					}
					return []byte(text), nil
				}
			}
			f.Metrics, f.Traces = tell("omega_gateway_calls_total 1\n"), tell(`{"resourceSpans":[]}`)
			w := httptest.NewRecorder()
			f.Handler().ServeHTTP(w, httptest.NewRequest("GET", tt.path, nil))
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.body) || !strings.HasPrefix(w.Header().Get("Content-Type"), tt.ctype) {
				t.Errorf("%d %q %s", w.Code, w.Header().Get("Content-Type"), w.Body)
			}
			if strings.Contains(w.Body.String(), "inner detail") || tt.status != 200 && strings.Contains(w.Body.String(), "omega_gateway_calls_total") {
				t.Errorf("too much is told: %s", w.Body)
			}
		})
	}
}
