package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sort"

	"omega/internal/strictjson"
)

// relay prepares what carries the server's words of one call.
func (c *mcpCall) relay() *relay {
	r := &relay{link: c.link, endpoint: c.endpoint, out: c.out, caps: c.session.caps, token: c.meta["progressToken"]}
	if !idForm.Match(r.token) {
		r.token = nil
	}
	if c.request.Method == "subscriptions/listen" {
		r.subscription = c.request.ID
	}
	return r
}

func (c *mcpCall) wantsProgress() bool { return idForm.Match(c.meta["progressToken"]) }

// upstreamMeta is what a server of 2026-07-28 is told of the agent: what it can
// be asked, as far as the policy lets it, and how much it wants to hear.
func (c *mcpCall) upstreamMeta() map[string]any {
	if c.revision != rev2026 {
		return nil
	}
	var declared map[string]json.RawMessage
	if err := json.Unmarshal(c.meta[metaCapabilities], &declared); err != nil {
		declared = nil
	}
	meta := map[string]any{metaCapabilities: c.link.capabilities(c.endpoint.Name, declared)}
	var level string
	if json.Unmarshal(c.meta[metaLevel], &level) == nil && c.link.permits("mcp.notifications/message", c.endpoint.Name) {
		for _, l := range levels {
			if l == level {
				meta[metaLevel] = l
			}
		}
	}
	return meta
}

// inputs adds the agent's answers to what an earlier result asked for. What
// nobody asked for stays here, and the server gets back only a state that it
// gave out itself.
func (c *mcpCall) inputs(ctx context.Context, out *outgoing, call string, given map[string]json.RawMessage, state string) *rpcError {
	if state != "" && !c.endpoint.gave(state) {
		return rpcErrorf(http.StatusOK, codeParams, "invalid requestState: the server did not give it out")
	}
	if state != "" {
		out.params["requestState"] = state
	}
	answers := map[string]json.RawMessage{}
	for _, key := range sortedKeys(given) {
		method := c.endpoint.wants(call, key)
		if method == "" {
			continue
		}
		args, result, err := answerArgs(method, given[key])
		if err != nil {
			return rpcErrorf(http.StatusOK, codeParams, "input response %s: %v", clip(key, 80), err)
		}
		d, in, err := c.link.authorize(ctx, "mcp."+questions[method]+"/answer", c.endpoint.Name, args)
		if err != nil {
			return c.unrecorded(err)
		}
		if in == nil {
			return rpcErrorf(http.StatusOK, codeInvalid, "%s", denial("Answering "+method, d.Reasons))
		}
		if err := in.outcome(ctx, delivered(result)); err != nil {
			return c.unrecorded(err)
		}
		answers[key] = result
	}
	if len(given) > 0 {
		out.params["inputResponses"] = answers
	}
	return nil
}

// moreInput decides each thing that an incomplete result asks the agent for;
// one denial withholds the result, since the server cannot go on without.
func (c *mcpCall) moreInput(ctx context.Context, call string, result map[string]any) (why string, err error) {
	kind, _ := result["resultType"].(json.RawMessage)
	if c.revision != rev2026 || string(kind) != `"input_required"` {
		return "", errTooOdd
	}
	var asked map[string]struct {
		Method string          `json:"method"`
		Params json.RawMessage `json:"params,omitempty"`
	}
	limits := strictjson.Limits{MaxBytes: maxAnswer, MaxDepth: maxAnswerDepth}
	if raw, _ := result["inputRequests"].(json.RawMessage); len(raw) > 0 {
		if err := strictjson.Decode(raw, &asked, limits); err != nil {
			return "", err
		}
	}
	var state string
	if raw, _ := result["requestState"].(json.RawMessage); len(raw) > 0 {
		if err := strictjson.Decode(raw, &state, limits); err != nil {
			return "", err
		}
	}
	clean, names := map[string]any{}, map[string]string{}
	for _, key := range sortedKeys(asked) {
		method := asked[key].Method
		if questions[method] == "" {
			return "", fmt.Errorf("input of %s: %w", clip(method, 80), errTooOdd)
		}
		params, in, why, err := c.link.askAgent(ctx, c.endpoint, method, asked[key].Params)
		if err != nil || in == nil {
			return why, err
		}
		body, err := strictjson.Canonical(params)
		if err != nil {
			return "", err
		}
		if err := in.outcome(ctx, delivered(body)); err != nil {
			return "", err
		}
		clean[key], names[key] = map[string]any{"method": method, "params": json.RawMessage(body)}, method
	}
	if asked != nil {
		result["inputRequests"] = clean
	}
	c.endpoint.want(call, names, state)
	return "", nil
}

// finish enters the outcome; without it nothing is given to the agent.
func (c *mcpCall) finish(ctx context.Context, in *intent, r result, fault *rpcError) *rpcError {
	if err := in.settle(ctx, r); err != nil {
		return c.unrecorded(err)
	}
	if fault != nil {
		fault.entered = true
	}
	return fault
}

func (c *mcpCall) unrecorded(err error) *rpcError {
	c.link.g.cfg.Log.Error("entry not recorded", "agent", c.link.agent.Instance, "error", err)
	fault := rpcErrorf(http.StatusServiceUnavailable, codeInternal, "%s", withheld(err))
	fault.entered = true // there is no log to enter it into
	return fault
}

func sortedKeys[T any](m map[string]T) []string {
	out := make([]string, 0, len(m))
	for name := range m {
		out = append(out, name)
	}
	sort.Strings(out)
	return out
}
