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

// A prompt is a request to a model in the form that was read strictly.
type prompt interface {
	// target says which model is asked, and whether the answer comes as a stream.
	target() (model string, stream bool)
	// limit holds the answer to the policy's tokens.
	limit(most int) error
	// args state the request for the policy.
	args(text []byte) (json.RawMessage, error)
	// beyond is what makes the provider act, fetch or keep something itself.
	beyond() extras
}

// extras are what a provider does beyond answering. They are an action of their
// own, so that no permit for a model gives them along.
type extras map[string]any

// api is one of the provider's interfaces.
type api struct {
	path, action string
	parse        func([]byte) (prompt, error)
	final        func(data []byte) bool // the last event of a stream; nil: [DONE] follows
}

var apis = []api{
	{"/chat/completions", policy.ActionChat, func(b []byte) (prompt, error) { return asPrompt(parseChat(b)) }, nil},
	{"/responses", policy.ActionResponses, func(b []byte) (prompt, error) { return asPrompt(parseResponses(b)) }, finalResponse},
	{"/embeddings", policy.ActionEmbeddings, func(b []byte) (prompt, error) { return asPrompt(parseEmbeddings(b)) }, nil},
}

// asPrompt keeps a nil of a type from looking like a prompt.
func asPrompt[T prompt](p T, err error) (prompt, error) {
	if err != nil {
		return nil, err
	}
	return p, nil
}

func apiAt(path string) (api, bool) {
	i := slices.IndexFunc(apis, func(a api) bool { return path == "/v1"+a.path })
	if i < 0 {
		return api{}, false
	}
	return apis[i], true
}

// ask is one request to a model on its way.
type ask struct {
	link  *link
	api   api
	model policy.Model
	text  []byte
	in    *intent
	usage bool // the agent asked for the usage in its stream
}

// serveModel is POST to one of the interfaces.
func (l *link) serveModel(w http.ResponseWriter, r *http.Request, a api) {
	if r.Method != http.MethodPost {
		l.refuse(w, r, "a model is asked with POST")
		return
	}
	body, err := readBody(r, maxChat)
	if err != nil {
		l.refuseModel(w, r, a, "", "request: "+err.Error())
		return
	}
	p, err := a.parse(body)
	if err != nil {
		l.refuseModel(w, r, a, "", err.Error())
		return
	}
	name, stream := p.target()
	model, ok := l.model(a, name)
	if !ok {
		l.refuseModel(w, r, a, clip(name, 128), "no such model here; this agent has: "+strings.Join(l.modelsOf(a.action), ", "))
		return
	}
	if err := p.limit(model.MaxTokens); err != nil {
		l.refuseModel(w, r, a, model.Name, err.Error())
		return
	}
	q := &ask{link: l, api: a, model: model}
	if c, isChat := p.(*chat); isChat {
		q.usage = c.withUsage()
	}
	if q.text, err = strictjson.Canonical(p); err != nil {
		l.refuseModel(w, r, a, model.Name, "request has no JSON form")
		return
	}
	if q.permitted(w, r, p) {
		q.send(w, r, stream)
	}
}

// permitted decides the request, and apart from it what it wants beyond an
// answer.
func (q *ask) permitted(w http.ResponseWriter, r *http.Request, p prompt) bool {
	l := q.link
	args, err := p.args(q.text)
	if err == nil {
		args, err = q.withEngine(args)
	}
	if err != nil {
		l.refuseModel(w, r, q.api, q.model.Name, "request has no JSON form")
		return false
	}
	if more := p.beyond(); len(more) > 0 {
		stated, err := strictjson.Canonical(more)
		if err != nil {
			l.refuseModel(w, r, q.api, q.model.Name, "request has no JSON form")
			return false
		}
		d, in, err := l.authorize(r.Context(), policy.ActionProvider, q.model.Name, stated)
		if err == nil && in != nil {
			err = in.settle(r.Context(), result{Status: "ok"})
		}
		if err != nil {
			l.unrecorded(w, err)
			return false
		}
		if in == nil {
			replyError(w, http.StatusForbidden, "policy_denied",
				denial("What the provider would run, fetch or keep itself ("+strings.Join(sortedKeys(more), ", ")+")", d.Reasons)+
					" Only function tools, which the agent runs itself, pass without that.")
			return false
		}
	}
	d, in, err := l.authorize(r.Context(), q.api.action, q.model.Name, args)
	switch {
	case err != nil:
		l.unrecorded(w, err)
	case in == nil:
		replyError(w, http.StatusForbidden, "policy_denied", denial("Using the model "+q.model.Name, d.Reasons))
	}
	q.in = in
	return err == nil && in != nil
}

// refuseModel enters and answers what the policy was not asked about.
func (l *link) refuseModel(w http.ResponseWriter, r *http.Request, a api, model, reason string) {
	if err := l.recordRefusal(r.Context(), a.action, model, reason); err != nil {
		l.unrecorded(w, err)
		return
	}
	replyError(w, http.StatusForbidden, "policy_denied", clip(reason, 600))
}

// model finds a model that both the bundle and a permit name.
func (l *link) model(a api, name string) (policy.Model, bool) {
	if !slices.Contains(l.modelsOf(a.action), name) {
		return policy.Model{}, false
	}
	return l.g.cfg.Document.Model(name)
}

// modelsOf lists what the bundle declares and some permit could allow.
func (l *link) modelsOf(action string) []string {
	var out []string
	for _, name := range l.agent.Models {
		if l.permits(action, name) && !slices.Contains(out, name) {
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
	var names []string
	for _, a := range apis {
		names = append(names, l.modelsOf(a.action)...)
	}
	slices.Sort(names)
	list := []any{}
	for _, name := range slices.Compact(names) {
		list = append(list, map[string]any{"id": name, "object": "model", "created": 0, "owned_by": "omega"})
	}
	reply(w, http.StatusOK, map[string]any{"object": "list", "data": list})
}

// send asks the model and passes its answer.
func (q *ask) send(w http.ResponseWriter, r *http.Request, stream bool) {
	ctx, cancel := context.WithTimeout(r.Context(), q.link.g.cfg.Timeout)
	defer cancel()
	resp, err := q.post(ctx)
	if err != nil {
		q.fail(w, r, err)
		return
	}
	defer resp.Body.Close()
	switch kind := contentType(resp); {
	case resp.StatusCode == http.StatusOK && stream && kind == "text/event-stream":
		q.stream(w, r, resp)
	case kind == "application/json":
		q.whole(w, r, resp)
	default:
		q.fail(w, r, fmt.Errorf("%w %d", errStatus, resp.StatusCode))
	}
}

func (q *ask) post(ctx context.Context) (*http.Response, error) {
	url, text := strings.TrimSuffix(q.model.URL, "/")+q.api.path, q.text
	if q.model.Engine != "" {
		var err error
		if text, err = q.forEngine(); err != nil {
			return nil, err
		}
		url = "http://agent/v1" + q.api.path
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	req.Header.Set("User-Agent", "omega-gateway")
	if q.model.Engine != "" {
		return q.askEngine(ctx, req)
	}
	if err := q.link.g.addSecrets(req.Header, q.model.Secrets); err != nil {
		return nil, err
	}
	return q.link.g.clients["model "+q.model.Name].Do(req)
}

func (q *ask) fail(w http.ResponseWriter, r *http.Request, err error) {
	if rec := q.in.outcome(r.Context(), failed("error", err.Error())); rec != nil {
		q.link.unrecorded(w, rec)
		return
	}
	replyError(w, http.StatusBadGateway, "upstream_error", "The model did not answer: "+outward(err)+".")
}

// whole passes an answer that comes in one piece, errors of the model included.
func (q *ask) whole(w http.ResponseWriter, r *http.Request, resp *http.Response) {
	b, err := readAll(r.Context(), resp.Body, maxAnswer)
	if err == nil {
		b, err = clean(b)
	}
	if err == nil && q.link.g.leaks(q.model.Secrets, b) {
		err = errLeak
	}
	if err != nil {
		q.fail(w, r, err)
		return
	}
	out := delivered(b)
	out.usage = usageOf(b)
	status := http.StatusOK
	if resp.StatusCode != http.StatusOK {
		out.Status, out.Error, status = "error", fmt.Sprintf("HTTP status %d", resp.StatusCode), http.StatusBadGateway
		if resp.StatusCode == http.StatusBadRequest || resp.StatusCode == http.StatusTooManyRequests {
			status = resp.StatusCode
		}
	}
	if err := q.in.settle(r.Context(), out); err != nil {
		q.link.unrecorded(w, err)
		return
	}
	replyBytes(w, status, b)
}

// usageOf reads how many tokens a model says it used, in any of the three
// interfaces' words; nil where it says nothing.
func usageOf(b []byte) *policy.Usage {
	type usage struct {
		Prompt     *int64 `json:"prompt_tokens"`
		Completion *int64 `json:"completion_tokens"`
		Input      *int64 `json:"input_tokens"`
		Output     *int64 `json:"output_tokens"`
	}
	var m struct {
		Usage    *usage `json:"usage"`
		Response struct {
			Usage *usage `json:"usage"`
		} `json:"response"`
	}
	if json.Unmarshal(b, &m) != nil {
		return nil
	}
	u := m.Usage
	if u == nil {
		u = m.Response.Usage
	}
	if u == nil || u.Prompt == nil && u.Input == nil {
		return nil
	}
	sum := func(a, b *int64) (n int64) {
		for _, p := range []*int64{a, b} {
			if p != nil && *p > 0 && *p < 1<<40 {
				n += *p
			}
		}
		return n
	}
	return &policy.Usage{Input: sum(u.Prompt, u.Input), Output: sum(u.Completion, u.Output)}
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
