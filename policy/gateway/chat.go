package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"omega/internal/strictjson"
	"omega/policy"
)

// serveChat is POST /v1/chat/completions of the OpenAI API.
func (l *link) serveChat(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		l.refuse(w, r, "chat completions are asked for with POST")
		return
	}
	body, err := readBody(r, maxChat)
	if err != nil {
		l.refuseChat(w, r, "", "request: "+err.Error())
		return
	}
	c, err := parseChat(body)
	if err != nil {
		l.refuseChat(w, r, "", err.Error())
		return
	}
	model, ok := l.model(c.Model)
	if !ok {
		l.refuseChat(w, r, clip(c.Model, 128), "no such model; this agent has: "+strings.Join(l.models(), ", "))
		return
	}
	if err := c.limit(model.MaxTokens); err != nil {
		l.refuseChat(w, r, model.Name, err.Error())
		return
	}
	text, err := strictjson.Canonical(c)
	if err != nil {
		l.refuseChat(w, r, model.Name, "request has no JSON form")
		return
	}
	d, in, err := l.authorize(r.Context(), policy.ActionChat, model.Name, c.args(text))
	switch {
	case err != nil:
		l.unrecorded(w, err)
	case !d.Permit:
		replyError(w, http.StatusForbidden, "policy_denied", denial("Using the model "+model.Name, d.Reasons))
	default:
		l.complete(w, r, model, c, text, in)
	}
}

// refuseChat enters and answers what the policy was not asked about.
func (l *link) refuseChat(w http.ResponseWriter, r *http.Request, model, reason string) {
	if err := l.recordRefusal(r.Context(), policy.ActionChat, model, reason); err != nil {
		l.unrecorded(w, err)
		return
	}
	replyError(w, http.StatusForbidden, "policy_denied", clip(reason, 600))
}

// model finds a model that both the bundle and a permit name.
func (l *link) model(name string) (policy.Model, bool) {
	if !slices.Contains(l.models(), name) {
		return policy.Model{}, false
	}
	return l.g.cfg.Document.Model(name)
}

// models lists what the bundle declares and some permit could allow.
func (l *link) models() []string {
	var out []string
	for _, name := range l.agent.Models {
		if l.permits(policy.ActionChat, name) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// serveModels is GET /v1/models. It asks nobody, so there is nothing to enter.
func (l *link) serveModels(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		l.refuse(w, r, "models are listed with GET")
		return
	}
	list := []any{}
	for _, name := range l.models() {
		list = append(list, map[string]any{"id": name, "object": "model", "created": 0, "owned_by": "omega"})
	}
	reply(w, http.StatusOK, map[string]any{"object": "list", "data": list})
}

// complete sends a permitted request to the model.
func (l *link) complete(w http.ResponseWriter, r *http.Request, model policy.Model, c *chat, text []byte, in *intent) {
	ctx, cancel := context.WithTimeout(r.Context(), l.g.cfg.Timeout)
	defer cancel()
	resp, err := l.askModel(ctx, model, text)
	if err != nil {
		l.failChat(w, r, in, err)
		return
	}
	defer resp.Body.Close()
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	switch {
	case resp.StatusCode == http.StatusOK && c.Stream && strings.TrimSpace(kind) == "text/event-stream":
		l.stream(w, r, resp, in)
	case strings.TrimSpace(kind) == "application/json":
		l.whole(w, r, resp, in)
	default:
		l.failChat(w, r, in, fmt.Errorf("%w %d", errStatus, resp.StatusCode))
	}
}

func (l *link) askModel(ctx context.Context, model policy.Model, text []byte) (*http.Response, error) {
	url := strings.TrimSuffix(model.URL, "/") + "/chat/completions"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	req.Header.Set("User-Agent", "omega-gateway")
	return l.g.clients["model "+model.Name].Do(req)
}

func (l *link) failChat(w http.ResponseWriter, r *http.Request, in *intent, err error) {
	if rec := in.outcome(r.Context(), failed("error", err.Error())); rec != nil {
		l.unrecorded(w, rec)
		return
	}
	replyError(w, http.StatusBadGateway, "upstream_error", "The model did not answer: "+outward(err)+".")
}

// whole passes an answer that comes in one piece, errors of the model included.
func (l *link) whole(w http.ResponseWriter, r *http.Request, resp *http.Response, in *intent) {
	b, err := readAll(resp.Body, maxAnswer)
	if err == nil {
		b, err = clean(b)
	}
	if err != nil {
		l.failChat(w, r, in, err)
		return
	}
	out := delivered(b)
	status := http.StatusOK
	if resp.StatusCode != http.StatusOK {
		out.Status, out.Error, status = "error", fmt.Sprintf("HTTP status %d", resp.StatusCode), http.StatusBadGateway
		if resp.StatusCode == http.StatusBadRequest || resp.StatusCode == http.StatusTooManyRequests {
			status = resp.StatusCode
		}
	}
	if err := in.outcome(r.Context(), out); err != nil {
		l.unrecorded(w, err)
		return
	}
	replyBytes(w, status, b)
}

// clean reads an upstream's object strictly and writes it anew.
func clean(b []byte) ([]byte, error) {
	var fields map[string]json.RawMessage
	limits := strictjson.Limits{MaxBytes: maxAnswer, MaxDepth: maxAnswerDepth}
	if err := strictjson.Decode(b, &fields, limits); err != nil {
		return nil, err
	}
	if fields == nil {
		return nil, errors.New("answer is not an object")
	}
	return strictjson.Canonical(fields)
}
