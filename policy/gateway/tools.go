package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"omega/internal/strictjson"
	"omega/policy"
)

// maxPins bounds the tools that a bundle pins on one server.
const maxPins = 256

// toolForm is the form of tool names (MCP 2025-11-25, server/tools).
var toolForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$`)

// pin is what a principal signed of one tool: nothing else of what a server
// says about it is shown to an agent.
type pin struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	InputSchema json.RawMessage `json:"input_schema"`

	digest   [32]byte // of the canonical form of the above
	bindings []binding
}

// fixed prepares what each call needs of a pin.
func (p pin) fixed() (pin, error) {
	text, err := strictjson.Canonical(p)
	if err != nil {
		return pin{}, err
	}
	p.digest, p.bindings = sha256.Sum256(text), bindings(p.InputSchema, nil, maxAnswerDepth)
	return p, nil
}

// parsePins reads the tool descriptors of a bundle.
func parsePins(b []byte) (map[string]pin, error) {
	var list []pin
	limits := strictjson.Limits{MaxBytes: maxAnswer, MaxDepth: maxAnswerDepth}
	if err := strictjson.Decode(b, &list, limits); err != nil {
		return nil, err
	}
	if len(list) > maxPins {
		return nil, fmt.Errorf("%d tools, limit %d", len(list), maxPins)
	}
	pins := map[string]pin{}
	for _, p := range list {
		if !toolForm.MatchString(p.Name) || len(p.InputSchema) == 0 || p.InputSchema[0] != '{' {
			return nil, fmt.Errorf("tool %.80q: no name or no schema", p.Name)
		}
		if _, twice := pins[p.Name]; twice {
			return nil, fmt.Errorf("tool %s is described twice", p.Name)
		}
		fixed, err := p.fixed()
		if err != nil {
			return nil, fmt.Errorf("tool %s: %w", p.Name, err)
		}
		pins[p.Name] = fixed
	}
	return pins, nil
}

// same compares a server's own words with what was signed.
func (p pin) same(other pin) bool { return p.digest != [32]byte{} && p.digest == other.digest }

// listTools shows the tools that may be called and are what was signed.
func (c *mcpCall) listTools(ctx context.Context) (any, *rpcError) {
	var p struct {
		Meta   json.RawMessage `json:"_meta"`
		Cursor string          `json:"cursor"`
	}
	if fault := c.request.params(&p, false); fault != nil {
		return nil, fault
	}
	if p.Cursor != "" {
		return nil, rpcErrorf(http.StatusOK, codeParams, "the list has one page; no cursor was given out")
	}
	d, in, err := c.link.authorize(ctx, policy.ActionList, c.endpoint.Name, nil)
	if err != nil {
		return nil, c.unrecorded(err)
	}
	if !d.Permit {
		fault := rpcErrorf(http.StatusOK, codeInvalid, "%s", denial("Listing the tools of "+c.endpoint.Name, d.Reasons))
		fault.entered = true
		return nil, fault
	}
	tools, err := c.visible(ctx)
	if err != nil {
		return nil, c.fail(ctx, in, err)
	}
	return c.give(ctx, in, c.listed(map[string]any{"tools": tools}))
}

// visible fetches the server's tools anew and keeps those that may be shown.
func (c *mcpCall) visible(ctx context.Context) ([]any, error) {
	offered, err := c.endpoint.tools(ctx, c.session, true)
	if err != nil {
		return nil, err
	}
	tools := []any{}
	for _, name := range sortedKeys(c.endpoint.pins) {
		pinned := c.endpoint.pins[name]
		if !c.link.permits(policy.ActionCall, c.endpoint.Name+"/"+name) {
			continue
		}
		if why := pinned.differs(offered); why != "" {
			c.link.g.cfg.Log.Warn("tool hidden", "agent", c.link.agent.Instance, "server", c.endpoint.Name, "tool", name, "reason", why)
			if err := c.link.recordRefusal(ctx, policy.ActionList, c.endpoint.Name+"/"+name, why); err != nil {
				return nil, err
			}
			continue
		}
		tools = append(tools, map[string]any{
			"name": name, "description": pinned.Description, "inputSchema": pinned.InputSchema,
		})
	}
	return tools, nil
}

// differs says why a server's tool is not the one that was signed.
func (p pin) differs(offered map[string]pin) string {
	now, ok := offered[p.Name]
	switch {
	case !ok:
		return "the server no longer offers the tool " + p.Name
	case !p.same(now):
		return "the server changed the description or schema of " + p.Name + " since it was signed"
	}
	return ""
}

// callParams are the parameters of tools/call.
type callParams struct {
	Meta      json.RawMessage            `json:"_meta"`
	Name      string                     `json:"name"`
	Arguments map[string]any             `json:"arguments"`
	Responses map[string]json.RawMessage `json:"inputResponses"`
	State     string                     `json:"requestState"`
}

// callTool decides a call and carries it out.
func (c *mcpCall) callTool(ctx context.Context) (any, *rpcError) {
	var p callParams
	if fault := c.request.params(&p, false); fault != nil {
		return nil, fault
	}
	if !toolForm.MatchString(p.Name) {
		return nil, rpcErrorf(http.StatusOK, codeParams, "no tool name")
	}
	if p.Arguments == nil {
		p.Arguments = map[string]any{}
	}
	args, err := strictjson.Canonical(p.Arguments)
	if err != nil {
		return nil, rpcErrorf(http.StatusOK, codeParams, "arguments: %v", err)
	}
	resource := c.endpoint.Name + "/" + p.Name
	pinned, isPinned := c.endpoint.pins[p.Name]
	var want map[string]string
	if isPinned {
		want = paramHeaders(pinned.bindings, p.Arguments)
	}
	if fault := c.checkParams(want); fault != nil {
		return nil, fault
	}
	d, in, err := c.link.authorize(ctx, policy.ActionCall, resource, args)
	switch {
	case err != nil:
		return nil, c.unrecorded(err)
	case !d.Permit:
		return c.tell(denial("Calling "+resource, d.Reasons)), nil
	case !isPinned:
		why := "the agent's bundle does not describe the tool " + p.Name
		return c.tellLogged(ctx, in, failed("refused", why), denial("Calling "+resource, []string{why}))
	}
	out := outgoing{
		method: "tools/call", name: p.Name, headers: want, meta: c.upstreamMeta(), progress: c.wantsProgress(),
		params: map[string]any{"name": p.Name, "arguments": json.RawMessage(args)},
	}
	return c.forward(ctx, in, pinned, out, p)
}

// forward sends a permitted call, if the tool still is what was signed.
func (c *mcpCall) forward(ctx context.Context, in *intent, pinned pin, out outgoing, p callParams) (any, *rpcError) {
	offered, err := c.endpoint.tools(ctx, c.session, false)
	if err != nil {
		return c.silent(ctx, in, err)
	}
	if why := pinned.differs(offered); why != "" {
		return c.tellLogged(ctx, in, failed("refused", why), denial("Calling "+in.input.Resource, []string{why}))
	}
	if fault := c.inputs(ctx, &out, in.input.Resource, p.Responses, p.State); fault != nil {
		return nil, c.finish(ctx, in, failed("refused", fault.Message), fault)
	}
	r := c.relay()
	raw, err := c.session.ask(ctx, out, r)
	if rec := r.finish(ctx); rec != nil {
		return nil, c.unrecorded(rec)
	}
	var fault *rpcError
	if errors.As(err, &fault) {
		return nil, c.fail(ctx, in, err)
	}
	if err == nil {
		err = complete(raw, c.revision)
	}
	if err != nil {
		return c.silent(ctx, in, err)
	}
	return c.deliver(ctx, in, in.input.Resource, raw, false)
}

// complete refuses a result that is none, and one that wants input of an agent
// that cannot give any.
func complete(raw json.RawMessage, revision string) error {
	fields, err := object(raw)
	if kind, ok := fields["resultType"]; err == nil && ok && string(kind) != `"complete"` && revision != rev2026 {
		err = fmt.Errorf("tool wants more input, which this revision cannot give: %w", errTooOdd)
	}
	return err
}

// silent says in words that the server did not answer.
func (c *mcpCall) silent(ctx context.Context, in *intent, err error) (any, *rpcError) {
	return c.tellLogged(ctx, in, failed("error", err.Error()), "The tool server did not answer: "+outward(err)+".")
}

// tellLogged enters an outcome and puts it into words for the model.
func (c *mcpCall) tellLogged(ctx context.Context, in *intent, r result, words string) (any, *rpcError) {
	return c.tell(words), c.finish(ctx, in, r, nil)
}

// outward is what an agent learns of an upstream's fault: no addresses.
func outward(err error) string {
	switch {
	case errors.Is(err, errAddress):
		return "its address is not allowed"
	case errors.Is(err, context.DeadlineExceeded):
		return "it took too long"
	case errors.Is(err, errRoom):
		return errRoom.Error()
	case errors.Is(err, errTooLong):
		return "its answer is too long"
	case errors.Is(err, errResting):
		return "it failed repeatedly and is left alone for some seconds"
	case errors.Is(err, errNotOffered):
		return "its bundle is not deployed on this platform"
	case errors.Is(err, errSecret):
		return "a secret that it needs is not available"
	case errors.Is(err, errLeak):
		return "its answer repeats a secret and is withheld"
	case strings.Contains(err.Error(), "tls:") || strings.Contains(err.Error(), "x509:"):
		return "its certificate is not valid"
	}
	return "it could not be reached or broke the protocol"
}
