package gateway

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// serveMCP ends the agent's side of MCP over streamable HTTP. The agent speaks
// to the gateway as to a server without sessions; what goes upstream is made
// anew from the decided call.
func (l *link) serveMCP(w http.ResponseWriter, r *http.Request, s *server) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		replyError(w, http.StatusMethodNotAllowed, "method_not_allowed", "the gateway sends nothing unasked and keeps no session; use POST")
		return
	}
	body, err := readBody(r, maxCall)
	if err != nil {
		l.refuseRPC(w, r, s, nil, rpcErrorf(http.StatusBadRequest, codeParse, "request: %v", err))
		return
	}
	m, fault := parseRequest(body)
	if fault != nil {
		l.refuseRPC(w, r, s, nil, fault)
		return
	}
	c := &mcpCall{link: l, server: s, request: m}
	if fault := c.checkHeaders(r.Header); fault != nil {
		l.refuseRPC(w, r, s, m.ID, fault)
		return
	}
	if strings.HasPrefix(m.Method, "notifications/") {
		w.WriteHeader(http.StatusAccepted) // for the gateway alone; none goes out
		return
	}
	result, fault := c.handle(r)
	if fault != nil && fault.Code != codeInternal {
		l.refuseRPC(w, r, s, m.ID, fault)
		return
	}
	replyRPC(w, m.ID, result, fault)
}

// refuseRPC enters and answers what the policy was not asked about.
func (l *link) refuseRPC(w http.ResponseWriter, r *http.Request, s *server, id json.RawMessage, fault *rpcError) {
	if err := l.recordRefusal(r.Context(), "mcp", s.Name, fault.Message); err != nil {
		l.g.cfg.Log.Error("entry not recorded", "agent", l.agent.Instance, "error", err)
		fault = rpcErrorf(http.StatusServiceUnavailable, codeInternal, "%s", withheld(err))
	}
	replyRPC(w, id, nil, fault)
}

// mcpCall is one request on its way.
type mcpCall struct {
	link     *link
	server   *server
	request  *request
	revision string // "" for a request before negotiation
	headers  http.Header
}

// handle does what the method asks for.
func (c *mcpCall) handle(r *http.Request) (any, *rpcError) {
	switch c.request.Method {
	case "initialize":
		return c.initialize()
	case "server/discover":
		return c.discover()
	case "ping":
		return c.complete(map[string]any{}), nil
	case "tools/list":
		return c.listTools(r.Context())
	case "tools/call":
		return c.callTool(r.Context())
	}
	return nil, rpcErrorf(http.StatusOK, codeNoMethod, "the gateway does not pass %s; tools/list and tools/call are", c.request.Method)
}

// initialize answers for the server: its own words about itself are not part of
// what was signed, so they do not reach the agent.
func (c *mcpCall) initialize() (any, *rpcError) {
	var p struct {
		ProtocolVersion string `json:"protocolVersion"`
	}
	if fault := c.request.params(&p, true); fault != nil {
		return nil, fault
	}
	if c.revision == rev2026 {
		return nil, rpcErrorf(http.StatusOK, codeNoMethod, "%s has no initialize", rev2026)
	}
	revision := rev2025
	if p.ProtocolVersion == rev0618 {
		revision = rev0618
	}
	return map[string]any{
		"protocolVersion": revision,
		"capabilities":    map[string]any{"tools": map[string]any{}},
		"serverInfo":      c.info(),
	}, nil
}

// discover is the handshake of 2026-07-28.
func (c *mcpCall) discover() (any, *rpcError) {
	return c.complete(map[string]any{
		"supportedVersions": revisions,
		"capabilities":      map[string]any{"tools": map[string]any{}},
		"ttlMs":             0,
		"cacheScope":        "private",
	}), nil
}

func (c *mcpCall) info() map[string]any {
	return map[string]any{"name": c.server.Name, "version": "omega"}
}

// complete adds what 2026-07-28 wants in every result.
func (c *mcpCall) complete(result map[string]any) map[string]any {
	if c.revision == rev2026 {
		result["resultType"] = "complete"
		result["_meta"] = map[string]any{"io.modelcontextprotocol/serverInfo": c.info()}
	}
	return result
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
