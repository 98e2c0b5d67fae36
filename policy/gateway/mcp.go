package gateway

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"omega/policy"
)

// serveMCP ends the agent's side of MCP over streamable HTTP. What goes to the
// server is made anew from the decided call.
func (l *link) serveMCP(w http.ResponseWriter, r *http.Request, e *endpoint) {
	switch r.Method {
	case http.MethodPost:
		l.postMCP(w, r, e)
	case http.MethodGet:
		l.streamMCP(w, r, e)
	case http.MethodDelete:
		l.endMCP(w, r, e)
	default:
		l.noMethod(w, r, e, http.StatusMethodNotAllowed, "use POST")
	}
}

// endMCP is DELETE: an agent is done with a session.
func (l *link) endMCP(w http.ResponseWriter, r *http.Request, e *endpoint) {
	id := r.Header.Get(headerSession)
	if _, fault := e.session(id, ""); id == "" || fault != nil {
		l.noMethod(w, r, e, http.StatusNotFound, "no such session")
		return
	}
	in := l.onSession(w, r, e, policy.ActionEnd)
	if in == nil {
		return
	}
	e.end(r.Context(), id)
	if err := in.settle(r.Context(), result{Status: "ok"}); err != nil {
		l.unrecorded(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// onSession decides what is done with a session itself. It answers where that is
// not permitted, and then returns nil.
func (l *link) onSession(w http.ResponseWriter, r *http.Request, e *endpoint, action string) *intent {
	d, in, err := l.authorize(r.Context(), action, e.Name, nil)
	switch {
	case err != nil:
		l.unrecorded(w, err)
	case in == nil:
		replyError(w, http.StatusForbidden, "policy_denied", denial("This on the session with "+e.Name, d.Reasons))
	}
	return in
}

// noMethod enters and answers what is done with no session of the agent's.
func (l *link) noMethod(w http.ResponseWriter, r *http.Request, e *endpoint, status int, why string) {
	if err := l.recordRefusal(r.Context(), "mcp."+clip(r.Method, 20), e.Name, why); err != nil {
		l.unrecorded(w, err)
		return
	}
	if status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodPost)
	}
	replyError(w, status, "method_not_allowed", why)
}

func (l *link) postMCP(w http.ResponseWriter, r *http.Request, e *endpoint) {
	body, err := readBody(r, maxCall)
	if err != nil {
		l.refuseRPC(w, r, e, nil, rpcErrorf(http.StatusBadRequest, codeParse, "request: %v", err))
		return
	}
	m, fault := parseRequest(body)
	if fault != nil {
		l.refuseRPC(w, r, e, nil, fault)
		return
	}
	if m.isAnswer() {
		l.serveAnswer(w, r, e, m)
		return
	}
	c := &mcpCall{link: l, endpoint: e, request: m, out: &outlet{w: w, timeout: l.g.cfg.Timeout}}
	if fault = c.checkHeaders(r.Header); fault == nil {
		c.session, fault = e.session(r.Header.Get(headerSession), c.revision)
	}
	if fault != nil {
		l.refuseRPC(w, r, e, m.ID, fault)
		return
	}
	if strings.HasPrefix(m.Method, "notifications/") {
		w.WriteHeader(http.StatusAccepted) // for the gateway alone; none goes out
		return
	}
	result, fault := c.handle(r)
	if fault != nil && c.revision == rev2026 && fault.status == http.StatusOK {
		fault.status = statusOf(fault.Code)
	}
	if fault != nil && !fault.entered {
		l.refuseRPC(w, r, e, m.ID, fault)
		return
	}
	c.out.finish(m.ID, result, fault)
}

// statusOf is the HTTP status of an error from 2026-07-28 on.
func statusOf(code int) int {
	switch code {
	case codeNoMethod:
		return http.StatusNotFound
	case codeParse, codeInvalid, codeParams, codeHeader, codeCapability, codeUnsupported:
		return http.StatusBadRequest
	}
	return http.StatusOK
}

// refuseRPC enters and answers what the policy was not asked about.
func (l *link) refuseRPC(w http.ResponseWriter, r *http.Request, e *endpoint, id json.RawMessage, fault *rpcError) {
	if err := l.recordRefusal(r.Context(), "mcp", e.Name, fault.Message); err != nil {
		l.g.cfg.Log.Error("entry not recorded", "agent", l.agent.Instance, "error", err)
		fault = rpcErrorf(http.StatusServiceUnavailable, codeInternal, "%s", withheld(err))
	}
	replyRPC(w, id, nil, fault)
}

// streamMCP is GET: what a server says unasked, in a session of 2025-11-25 or
// 2025-06-18, where the policy permits any of it.
func (l *link) streamMCP(w http.ResponseWriter, r *http.Request, e *endpoint) {
	id := r.Header.Get(headerSession)
	if id == "" || !l.mayHear(e.Name) {
		l.noMethod(w, r, e, http.StatusMethodNotAllowed, "the policy lets this server say nothing unasked; use POST")
		return
	}
	s, fault := e.session(id, "")
	if fault != nil {
		l.refuseRPC(w, r, e, nil, fault)
		return
	}
	in := l.onSession(w, r, e, policy.ActionHear)
	if in == nil {
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	resp, err := s.listen(r.Context())
	if err != nil {
		if rec := in.settle(r.Context(), failed("error", err.Error())); rec != nil {
			l.unrecorded(w, rec)
			return
		}
		l.noMethod(w, r, e, http.StatusMethodNotAllowed, "the server says nothing unasked")
		return
	}
	defer resp.Body.Close()
	relay := &relay{link: l, endpoint: e, out: &outlet{w: w, timeout: l.g.cfg.Timeout}, caps: s.caps}
	err = relay.out.open()
	for events := newEvents(r.Context(), resp.Body, maxAnswer); err == nil; {
		var data []byte
		if data, err = events.next(); err == nil {
			events.rest = maxAnswer // a stream may be long, its events may not
			_, _, err = s.takeAnswer(r.Context(), data, message{}, relay)
		}
	}
	// What was heard has outcomes of its own.
	if err := errors.Join(relay.finish(r.Context()), in.settle(r.Context(), result{Status: "ok"})); err != nil {
		l.g.cfg.Log.Error("entry not recorded", "agent", l.agent.Instance, "error", err)
	}
}

// mcpCall is one request on its way.
type mcpCall struct {
	link     *link
	endpoint *endpoint
	session  *session
	request  *request
	out      *outlet
	revision string // "" for a request before negotiation
	headers  http.Header
	meta     map[string]json.RawMessage
}

// handle does what the method asks for.
func (c *mcpCall) handle(r *http.Request) (any, *rpcError) {
	old := c.revision != rev2026
	switch m := c.request.Method; {
	case m == "initialize" && old:
		return c.initialize()
	case m == "ping" && old:
		return c.complete(map[string]any{}), nil
	case m == "server/discover":
		return c.discover()
	case m == "tools/list":
		return c.listTools(r.Context())
	case m == "tools/call":
		return c.callTool(r.Context())
	default:
		for _, known := range methods {
			if known.name == m && (old && known.old || !old && known.new) {
				return c.pass(r.Context(), known)
			}
		}
	}
	return nil, rpcErrorf(http.StatusOK, codeNoMethod, "the gateway does not pass %s", c.request.Method)
}

// initialize answers for the server: its own words about itself are not part of
// what was signed, so they do not reach the agent.
func (c *mcpCall) initialize() (any, *rpcError) {
	var p struct {
		ProtocolVersion string                     `json:"protocolVersion"`
		Capabilities    map[string]json.RawMessage `json:"capabilities"`
	}
	if fault := c.request.params(&p, true); fault != nil {
		return nil, fault
	}
	revision := rev2025
	if p.ProtocolVersion == rev0618 {
		revision = rev0618
	}
	c.out.w.Header().Set(headerSession, c.endpoint.open(revision, c.link.capabilities(c.endpoint.Name, p.Capabilities)))
	return map[string]any{
		"protocolVersion": revision,
		"capabilities":    c.link.offers(c.endpoint.Name),
		"serverInfo":      c.info(),
	}, nil
}

// discover is the handshake of 2026-07-28.
func (c *mcpCall) discover() (any, *rpcError) {
	return c.listed(map[string]any{
		"supportedVersions": revisions,
		"capabilities":      c.link.offers(c.endpoint.Name),
	}), nil
}

func (c *mcpCall) info() map[string]any {
	return map[string]any{"name": c.endpoint.Name, "version": "omega"}
}

// complete adds what 2026-07-28 wants in every result.
func (c *mcpCall) complete(result map[string]any) map[string]any {
	if c.revision == rev2026 {
		if _, given := result["resultType"]; !given {
			result["resultType"] = "complete"
		}
		result["_meta"] = map[string]any{"io.modelcontextprotocol/serverInfo": c.info()}
	}
	return result
}

// listed adds what 2026-07-28 wants in a result that could be kept: nobody keeps
// one, since the next decision may differ.
func (c *mcpCall) listed(result map[string]any) map[string]any {
	if c.revision == rev2026 {
		result["ttlMs"], result["cacheScope"] = 0, "private"
	}
	return c.complete(result)
}

// tell makes a tool result of words, which is the form that models read.
func (c *mcpCall) tell(words string) map[string]any {
	return c.complete(map[string]any{
		"isError": true,
		"content": []any{map[string]any{"type": "text", "text": words}},
	})
}

// denial puts a policy's reasons into words.
func denial(what string, reasons []string) string {
	if len(reasons) == 0 {
		return what + " is denied by policy."
	}
	return what + " is denied by policy: " + strings.Join(reasons, "; ") + "."
}

// revisionKnown says whether a revision is spoken.
func revisionKnown(v string) bool { return slices.Contains(revisions, v) }
