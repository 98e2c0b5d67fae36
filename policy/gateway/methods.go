package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"omega/internal/strictjson"
	"omega/policy"
)

// method is a request of MCP besides tools, which passes where the policy
// permits its action. The agent's parameters are read field by field; what is
// not named here does not pass.
type method struct {
	name     string
	action   string
	old, new bool   // in 2025-06-18 and 2025-11-25; in 2026-07-28
	list     string // the field of a list's answer that is shown as far as it may be used
	mirrored string // the parameter that Mcp-Name repeats
	cached   bool   // its answer has ttlMs
	state    func(p *passParams) (resource string, args any, params map[string]any, err error)
}

// passParams are the parameters of all these methods.
type passParams struct {
	Meta      json.RawMessage            `json:"_meta"`
	Cursor    string                     `json:"cursor"`
	URI       string                     `json:"uri"`
	Name      string                     `json:"name"`
	Arguments map[string]string          `json:"arguments"`
	Level     string                     `json:"level"`
	Ref       *completionRef             `json:"ref"`
	Argument  *completionArgument        `json:"argument"`
	Context   *completionContext         `json:"context"`
	Listen    *listenTo                  `json:"notifications"`
	Responses map[string]json.RawMessage `json:"inputResponses"`
	State     string                     `json:"requestState"`
}

type completionRef struct {
	Type  string `json:"type"`
	Name  string `json:"name,omitempty"`
	Title string `json:"title,omitempty"`
	URI   string `json:"uri,omitempty"`
}

type completionArgument struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type completionContext struct {
	Arguments map[string]string `json:"arguments,omitempty"`
}

type listenTo struct {
	Tools     bool     `json:"toolsListChanged,omitempty"`
	Prompts   bool     `json:"promptsListChanged,omitempty"`
	Resources bool     `json:"resourcesListChanged,omitempty"`
	URIs      []string `json:"resourceSubscriptions,omitempty"`
}

var errParams = errors.New("a parameter is missing")

var methods = []method{
	{name: "resources/list", action: policy.ActionResourceList, old: true, new: true, list: "resources", cached: true, state: stateNothing},
	{name: "resources/templates/list", action: policy.ActionResourceList, old: true, new: true, list: "resourceTemplates", cached: true, state: stateNothing},
	{name: "prompts/list", action: policy.ActionPromptList, old: true, new: true, list: "prompts", cached: true, state: stateNothing},
	{name: "resources/read", action: policy.ActionResourceRead, old: true, new: true, mirrored: "uri", cached: true, state: stateURI},
	{name: "resources/subscribe", action: policy.ActionSubscribe, old: true, state: stateURI},
	{name: "resources/unsubscribe", action: policy.ActionSubscribe, old: true, state: stateURI},
	{name: "prompts/get", action: policy.ActionPromptGet, old: true, new: true, mirrored: "name", state: statePrompt},
	{name: "completion/complete", action: policy.ActionComplete, old: true, new: true, state: stateCompletion},
	{name: "logging/setLevel", action: policy.ActionLogLevel, old: true, state: stateLevel},
	{name: "subscriptions/listen", action: policy.ActionListen, new: true, state: stateListen},
}

func stateNothing(p *passParams) (string, any, map[string]any, error) {
	if p.Cursor != "" {
		return "", nil, nil, errors.New("the list has one page; no cursor was given out")
	}
	return "", map[string]any{}, map[string]any{}, nil
}

func stateURI(p *passParams) (string, any, map[string]any, error) {
	if p.URI == "" {
		return "", nil, nil, errParams
	}
	args := map[string]any{"uri": p.URI}
	return "", args, args, nil
}

func statePrompt(p *passParams) (string, any, map[string]any, error) {
	if !toolForm.MatchString(p.Name) {
		return "", nil, nil, errParams
	}
	if p.Arguments == nil {
		p.Arguments = map[string]string{}
	}
	return p.Name, p.Arguments, map[string]any{"name": p.Name, "arguments": p.Arguments}, nil
}

func stateCompletion(p *passParams) (string, any, map[string]any, error) {
	if p.Ref == nil || p.Argument == nil {
		return "", nil, nil, errParams
	}
	p.Ref.Title = ""
	args := map[string]any{"ref": p.Ref.Name + p.Ref.URI, "name": p.Argument.Name, "value": p.Argument.Value}
	params := map[string]any{"ref": p.Ref, "argument": p.Argument}
	if p.Context != nil {
		args["context"], params["context"] = p.Context.Arguments, p.Context
	}
	return "", args, params, nil
}

func stateLevel(p *passParams) (string, any, map[string]any, error) {
	if !slices.Contains(levels, p.Level) {
		return "", nil, nil, errors.New("no such level")
	}
	args := map[string]any{"level": p.Level}
	return "", args, args, nil
}

// levels are those of RFC 5424, as MCP's logging has them.
var levels = []string{"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"}

func stateListen(p *passParams) (string, any, map[string]any, error) {
	if p.Listen == nil {
		return "", nil, nil, errParams
	}
	params := map[string]any{"notifications": p.Listen}
	return "", p.Listen, params, nil
}

// pass decides a method of the table and carries it out.
func (c *mcpCall) pass(ctx context.Context, m method) (any, *rpcError) {
	var p passParams
	if fault := c.request.params(&p, false); fault != nil {
		return nil, fault
	}
	sub, stated, params, err := m.state(&p)
	if err != nil {
		return nil, rpcErrorf(http.StatusOK, codeParams, "parameters of %s: %v", m.name, err)
	}
	args, err := strictjson.Canonical(stated)
	if err != nil {
		return nil, rpcErrorf(http.StatusOK, codeParams, "parameters of %s: %v", m.name, err)
	}
	resource := c.endpoint.Name
	if sub != "" {
		resource += "/" + sub
	}
	d, in, err := c.link.authorize(ctx, m.action, resource, args)
	switch {
	case err != nil:
		return nil, c.unrecorded(err)
	case !d.Permit:
		fault := rpcErrorf(http.StatusOK, codeInvalid, "%s", denial(m.name+" of "+resource, d.Reasons))
		fault.entered = true
		return nil, fault
	}
	out := outgoing{method: m.name, params: params, meta: c.upstreamMeta(), progress: c.wantsProgress()}
	switch m.mirrored {
	case "uri":
		out.name = p.URI
	case "name":
		out.name = p.Name
	}
	if m.list != "" {
		return c.passList(ctx, m, in, out)
	}
	if fault := c.inputs(ctx, &out, resource, p.Responses, p.State); fault != nil {
		return nil, c.finish(ctx, in, failed("refused", fault.Message), fault)
	}
	raw, fault := c.exchange(ctx, in, out)
	if fault != nil {
		return nil, fault
	}
	return c.deliver(ctx, in, resource, raw, m.cached)
}

// passList gathers all pages of a list and shows what may be used of it.
func (c *mcpCall) passList(ctx context.Context, m method, in *intent, out outgoing) (any, *rpcError) {
	items := []json.RawMessage{}
	err := c.session.eachPage(ctx, out, func(raw json.RawMessage) (string, error) {
		fields, err := object(raw)
		if err != nil {
			return "", err
		}
		var page []json.RawMessage
		var cursor string
		limits := strictjson.Limits{MaxBytes: maxAnswer, MaxDepth: maxAnswerDepth}
		if err := strictjson.Decode(fields[m.list], &page, limits); err != nil {
			return "", err
		}
		if next := fields["nextCursor"]; len(next) > 0 {
			if err := strictjson.Decode(next, &cursor, limits); err != nil {
				return "", err
			}
		}
		items = append(items, page...)
		return cursor, nil
	})
	if err != nil {
		return nil, c.fail(ctx, in, err)
	}
	shown := []json.RawMessage{}
	for _, item := range items {
		if c.link.usable(c.endpoint.Name, m.list, item) {
			shown = append(shown, item)
		}
	}
	return c.give(ctx, in, c.listed(map[string]any{m.list: shown}))
}

// exchange asks the server, and relays what it says before its answer.
func (c *mcpCall) exchange(ctx context.Context, in *intent, out outgoing) (json.RawMessage, *rpcError) {
	r := c.relay()
	raw, err := c.session.ask(ctx, out, r)
	if rec := r.finish(ctx); rec != nil {
		return nil, c.unrecorded(rec)
	}
	if err != nil {
		return nil, c.fail(ctx, in, err)
	}
	return raw, nil
}

// fail enters why there is no result, and says it in a protocol's error.
func (c *mcpCall) fail(ctx context.Context, in *intent, err error) *rpcError {
	var fault *rpcError
	if errors.As(err, &fault) {
		return c.finish(ctx, in, failed("error", fault.Message), fault)
	}
	return c.finish(ctx, in, failed("error", err.Error()),
		rpcErrorf(http.StatusOK, codeInternal, "%s did not answer: %s", c.endpoint.Name, outward(err)))
}

// deliver checks a server's result, enters it and gives it out.
func (c *mcpCall) deliver(ctx context.Context, in *intent, call string, raw json.RawMessage, cached bool) (any, *rpcError) {
	fields, err := object(raw)
	if err != nil {
		return nil, c.fail(ctx, in, err)
	}
	result := map[string]any{}
	for name, value := range fields {
		if !strings.HasPrefix(name, "_") {
			result[name] = value
		}
	}
	if kind, given := fields["resultType"]; given && string(kind) != `"complete"` {
		if why, err := c.moreInput(ctx, call, result); err != nil {
			return nil, c.fail(ctx, in, err)
		} else if why != "" {
			return nil, c.finish(ctx, in, failed("refused", why), rpcErrorf(http.StatusOK, codeInvalid, "%s", why))
		}
	} else {
		delete(result, "resultType")
		if cached {
			c.listed(result)
		}
	}
	if c.revision != rev2026 {
		for _, name := range []string{"ttlMs", "cacheScope"} {
			delete(result, name)
		}
	}
	return c.give(ctx, in, c.complete(result))
}

// give enters a result and hands it out.
func (c *mcpCall) give(ctx context.Context, in *intent, result map[string]any) (any, *rpcError) {
	body, err := strictjson.Canonical(result)
	if err != nil {
		return nil, c.finish(ctx, in, failed("error", err.Error()), rpcErrorf(http.StatusOK, codeInternal, "result has no JSON form"))
	}
	return json.RawMessage(body), c.finish(ctx, in, delivered(body), nil)
}
