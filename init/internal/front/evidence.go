package front

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"omega/attest"
	"omega/attest/eat"
)

// OpeningPath is where one component of one agent is opened; the query is
// nonce, instance and component as KIND:NAME.
const OpeningPath = "/.well-known/omega/opening"

// maxAsking bounds the requests for evidence that are worked on at once; their
// answers are in memory until they are sent.
const maxAsking = 32

// evidenceRoutes are the ways to ask for evidence.
func (f *Front) evidenceRoutes(mux *http.ServeMux) {
	a := &asking{front: f, slots: make(chan struct{}, maxAsking), converting: make(chan struct{}, 1), clients: map[netip.Prefix]int{}}
	r := newRates(time.Now)
	mux.HandleFunc("GET "+EvidencePath, f.paced(r, f.anybody(a.get)))
	mux.HandleFunc("POST "+EvidencePath, f.paced(r, f.anybody(a.post)))
	mux.HandleFunc("GET "+OpeningPath, f.paced(r, f.anybody(a.opening)))
}

// maxAskingPerClient bounds how many of them are one client's.
const maxAskingPerClient = 16

// asking answers requests for evidence.
type asking struct {
	front *Front
	slots chan struct{}
	// converting is held while evidence is turned into a token: with many agents
	// that takes tens of times what the evidence itself does.
	converting chan struct{}

	mu      sync.Mutex // guards what follows
	clients map[netip.Prefix]int
}

// enter counts a client's request; leave gives its place back.
func (a *asking) enter(client netip.Prefix) (leave func(), ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.clients[client] >= maxAskingPerClient {
		return nil, false
	}
	a.clients[client]++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.clients[client]--; a.clients[client] == 0 {
			delete(a.clients, client)
		}
	}, true
}

// query takes exactly the parameters named, each once.
func query(r *http.Request, names ...string) (map[string]string, bool) {
	q := r.URL.Query()
	if len(q) != len(names) {
		return nil, false
	}
	out := map[string]string{}
	for _, n := range names {
		if len(q[n]) != 1 {
			return nil, false
		}
		out[n] = q[n][0]
	}
	return out, true
}

func (a *asking) get(w http.ResponseWriter, r *http.Request) {
	names := []string{"nonce"}
	if r.URL.Query().Has("format") {
		names = append(names, "format")
	}
	q, ok := query(r, names...)
	if f := q["format"]; f != "" && f != formatEAT && f != formatJSON {
		fail(w, http.StatusBadRequest, "format is json or eat")
		return
	}
	var nonce attest.Bytes32
	if !ok || nonce.UnmarshalText([]byte(q["nonce"])) != nil {
		fail(w, http.StatusBadRequest, "nonce must be given once, as 64 lower-case hex digits")
		return
	}
	a.answer(w, r, attest.Request{Version: attest.RequestVersion, Nonce: nonce})
}

func (a *asking) post(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, attest.MaxRequest))
	if err != nil {
		fail(w, http.StatusRequestEntityTooLarge, "the request is too long")
		return
	}
	req, err := attest.ParseRequest(b)
	if err != nil || r.URL.RawQuery != "" {
		fail(w, http.StatusBadRequest, "not a request for evidence (omega/evidence-request/v1)")
		return
	}
	a.answer(w, r, *req)
}

func (a *asking) opening(w http.ResponseWriter, r *http.Request) {
	q, ok := query(r, "nonce", "instance", "component")
	req := attest.Request{Version: attest.RequestVersion}
	if ok {
		req.Open, ok = attest.ParseOpen(q["instance"], q["component"])
	}
	if !ok || req.Nonce.UnmarshalText([]byte(q["nonce"])) != nil {
		fail(w, http.StatusBadRequest, "want nonce (64 lower-case hex digits), instance and component (KIND:NAME), each once")
		return
	}
	a.answer(w, r, req)
}

// answer asks for the evidence and sends it. A large answer keeps its slot until
// it is sent: a slow reader must not hold more than one's share of memory.
func (a *asking) answer(w http.ResponseWriter, r *http.Request, req attest.Request) {
	leave, ok := a.enter(networkOf(r.RemoteAddr))
	if !ok {
		w.Header().Set("Retry-After", "1")
		fail(w, http.StatusTooManyRequests, "this address waits for evidence already; try again")
		return
	}
	defer leave()
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	select {
	case a.slots <- struct{}{}:
	case <-ctx.Done():
		w.Header().Set("Retry-After", "1")
		fail(w, http.StatusServiceUnavailable, "too many are asking for evidence; try again")
		return
	}
	release := sync.OnceFunc(func() { <-a.slots })
	defer release()
	body, err := a.front.Evidence(ctx, req)
	if len(body) <= smallFile {
		release()
	}
	switch {
	case errors.Is(err, ErrNotFound):
		fail(w, http.StatusNotFound, "no such agent or component, or none that you may see")
	case err != nil:
		a.front.Log.Warn("evidence", "nonce", hex.EncodeToString(req.Nonce[:4]), "error", err)
		w.Header().Set("Retry-After", "1")
		fail(w, http.StatusServiceUnavailable, "evidence is not available right now; try again")
	default:
		a.send(w, r, body)
	}
}

// Forms of evidence.
const (
	formatJSON = "json"
	formatEAT  = "eat"
)

// send writes evidence in the form that was asked for: by name in the query, or
// by media type.
func (a *asking) send(w http.ResponseWriter, r *http.Request, body []byte) {
	format := r.URL.Query().Get("format")
	if format == "" && strings.HasPrefix(r.Header.Get("Accept"), eat.MediaType) {
		format = formatEAT
	}
	w.Header().Set("Vary", "Accept")
	if format != formatEAT {
		write(w, "application/json", body)
		return
	}
	body, err := a.token(r.Context(), body)
	if err != nil {
		a.front.Log.Warn("evidence as a token", "error", err)
		fail(w, http.StatusNotAcceptable, "this evidence has no form as a token; ask for JSON")
		return
	}
	write(w, eat.EvidenceMediaType, body)
}

// token is evidence in its other form.
func (a *asking) token(ctx context.Context, body []byte) ([]byte, error) {
	select {
	case a.converting <- struct{}{}:
		defer func() { <-a.converting }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	e, err := attest.ParseEvidence(body)
	if err != nil {
		return nil, err
	}
	return eat.Marshal(e)
}
