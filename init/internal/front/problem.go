package front

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"omega/policy"
)

// A Problem is why a request below /v1/ is refused: an HTTP status, a word for
// programs, and words for people with what to do next.
type Problem struct {
	Status  int    `json:"-"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Next    string `json:"next"`
}

// Error gives the words.
func (p *Problem) Error() string { return p.Message }

// problem answers with err where it is a Problem. Other errors are inner ones:
// they go to the log, and the client hears that it should try again.
func (f *Front) problem(w http.ResponseWriter, err error) {
	var p *Problem
	if !errors.As(err, &p) {
		f.Log.Warn("request", "error", err)
		p = &Problem{http.StatusServiceUnavailable, "unavailable", "this is not available right now", "try again in a moment"}
	}
	body, err := json.Marshal(map[string]*Problem{"error": p})
	if err != nil { // only for text that is not UTF-8, which Marshal replaces
		body = []byte(`{"error":{}}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	switch p.Status {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		h.Set("Retry-After", "1")
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer") // RFC 6750 section 3
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n'))
}

// reply answers with the JSON of v.
func (f *Front) reply(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		f.problem(w, err)
		return
	}
	write(w, "application/json", append(body, '\n'))
}

// errNoSuchAgent answers for agents that are not there and for those that are
// not the caller's to know of; which of the two is nobody's to learn.
var errNoSuchAgent = &Problem{http.StatusNotFound, "no_such_agent", "no such agent, or none that is yours to ask for",
	"list the agents that you may see: GET /v1/agents"}

// granted lets through those who have the right for some agent, and says who
// they are. For which agents is next's to ask.
func (f *Front) granted(right string, next func(w http.ResponseWriter, r *http.Request, who Who)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, err := f.Callers.Identify(r)
		switch {
		case err != nil:
			f.Log.Info("caller refused", "error", err)
			f.problem(w, &Problem{http.StatusUnauthorized, "not_known", errNotKnown.Error(), "use a key or a token of a caller that the platform's policy names"})
		case who.Has(right):
			next(w, r, who)
		case who.Named:
			f.problem(w, &Problem{http.StatusForbidden, "no_right", "you do not have the right: " + right, "ask the owner of the platform's policy for it"})
		default:
			f.problem(w, &Problem{http.StatusUnauthorized, "not_known", "this needs a caller with the right: " + right,
				"use a key or a token of a caller that the platform's policy names (omega: --caller-key)"})
		}
	}
}

// body reads a request of at most max bytes.
func body(w http.ResponseWriter, r *http.Request, max int64) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, max))
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		return nil, &Problem{http.StatusRequestEntityTooLarge, "too_long", fmt.Sprintf("the request is longer than %d bytes", max), "send less"}
	case err != nil:
		return nil, &Problem{http.StatusBadRequest, "malformed", "the request did not arrive whole", "send it again"}
	}
	return b, nil
}

// Names are the names of the policy's agents for which the caller has the right.
func (w Who) Names(right string) []string {
	var out []string
	for _, name := range w.agents {
		if w.May(right, name) {
			out = append(out, name)
		}
	}
	return out
}

// Observed are the names of the policy's agents that the caller may see.
func (w Who) Observed() []string { return w.Names(policy.RightObserve) }

// Caller is the name, in the policy, of who has the right for some agent, for
// the provenance log; the one that was named before everybody.
func (w Who) Caller(right string) string {
	name := ""
	for _, c := range w.granted {
		if has(c, right) && (name == "" || !c.Anonymous) {
			name = c.Name
		}
	}
	return name
}
