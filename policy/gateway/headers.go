package gateway

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"omega/internal/strictjson"
)

// Headers of MCP over streamable HTTP. From 2026-07-28 on they mirror the body
// and must agree with it; the body decides.
const (
	headerRevision = "Mcp-Protocol-Version"
	headerSession  = "Mcp-Session-Id"
	headerMethod   = "Mcp-Method"
	headerName     = "Mcp-Name"
	headerParam    = "Mcp-Param-"

	metaRevision     = "io.modelcontextprotocol/protocolVersion"
	metaClient       = "io.modelcontextprotocol/clientInfo"
	metaCapabilities = "io.modelcontextprotocol/clientCapabilities"
	metaLevel        = "io.modelcontextprotocol/logLevel"
	metaSubscription = "io.modelcontextprotocol/subscriptionId"
)

// checkHeaders refuses a request whose headers say something else than its body.
func (c *mcpCall) checkHeaders(h http.Header) *rpcError {
	for name, values := range h {
		if strings.HasPrefix(name, "Mcp-") && len(values) != 1 {
			return rpcErrorf(http.StatusBadRequest, codeHeader, "header %s is given %d times", name, len(values))
		}
	}
	c.revision, c.headers = h.Get(headerRevision), h
	if c.revision == rev0326 {
		c.revision = ""
	}
	if c.revision != "" && !revisionKnown(c.revision) {
		fault := rpcErrorf(http.StatusBadRequest, codeUnsupported, "unsupported protocol version")
		fault.Data = map[string]any{"supported": revisions, "requested": clip(c.revision, 40)}
		return fault
	}
	name, fault := c.peek()
	if fault != nil {
		return fault
	}
	if said, ok := c.meta[metaRevision]; ok && string(said) != `"`+c.revision+`"` {
		return rpcErrorf(http.StatusBadRequest, codeHeader, "%s and _meta name different protocol versions", headerRevision)
	}
	newest := c.revision == rev2026
	if fault := c.mirror(h, headerMethod, c.request.Method, newest); fault != nil {
		return fault
	}
	if fault := c.mirror(h, headerName, name, newest && mirrored(c.request.Method) != ""); fault != nil {
		return fault
	}
	for _, part := range []string{metaRevision, metaCapabilities} {
		if newest && len(c.request.ID) > 0 && len(c.meta[part]) == 0 {
			return rpcErrorf(http.StatusBadRequest, codeParams, "_meta lacks %s", part)
		}
	}
	return nil
}

// mirrored is the parameter that Mcp-Name repeats.
func mirrored(method string) string {
	if method == "tools/call" {
		return "name"
	}
	for _, m := range methods {
		if m.name == method {
			return m.mirrored
		}
	}
	return ""
}

// mirror demands that a header, where it is given or needed, equals the body.
func (c *mcpCall) mirror(h http.Header, header, body string, needed bool) *rpcError {
	said, given := h[http.CanonicalHeaderKey(header)]
	if !given && !needed {
		return nil
	}
	if !given || said[0] != body {
		return rpcErrorf(http.StatusBadRequest, codeHeader, "header mismatch: %s is not what the body says", header)
	}
	return nil
}

// peek reads the parts of the parameters that headers mirror.
func (c *mcpCall) peek() (string, *rpcError) {
	var p struct {
		Meta map[string]json.RawMessage `json:"_meta"`
		Name json.RawMessage            `json:"name"`
		URI  json.RawMessage            `json:"uri"`
	}
	if fault := c.request.params(&p, true); fault != nil {
		fault.status = http.StatusBadRequest
		return "", fault
	}
	c.meta = p.Meta
	raw := map[string]json.RawMessage{"name": p.Name, "uri": p.URI}[mirrored(c.request.Method)]
	var name string
	if len(raw) > 0 {
		if err := strictjson.Decode(raw, &name, strictjson.Limits{}); err != nil {
			return "", rpcErrorf(http.StatusBadRequest, codeParams, "name or uri is not text")
		}
	}
	return name, nil
}

// binding is a property of a tool's input schema that a header mirrors
// (x-mcp-header, MCP 2026-07-28).
type binding struct {
	path   []string
	header string
}

type schemaNode struct {
	Header     json.RawMessage            `json:"x-mcp-header"`
	Properties map[string]json.RawMessage `json:"properties"`
}

// bindings finds the annotated properties of a schema.
func bindings(schema json.RawMessage, path []string, depth int) []binding {
	var node schemaNode
	limits := strictjson.Limits{MaxBytes: maxAnswer, MaxDepth: maxAnswerDepth, AllowUnknown: true}
	if depth == 0 || strictjson.Decode(schema, &node, limits) != nil {
		return nil
	}
	var out []binding
	var header string
	if len(node.Header) > 0 && json.Unmarshal(node.Header, &header) == nil && header != "" {
		out = append(out, binding{path: path, header: http.CanonicalHeaderKey(headerParam + header)})
	}
	for name, sub := range node.Properties {
		out = append(out, bindings(sub, append(append([]string(nil), path...), name), depth-1)...)
	}
	return out
}

// paramHeaders makes the headers that mirror arguments.
func paramHeaders(bound []binding, args map[string]any) map[string]string {
	out := map[string]string{}
	for _, b := range bound {
		var value any = args
		for _, step := range b.path {
			m, _ := value.(map[string]any)
			value = m[step]
		}
		if text, ok := headerText(value); ok {
			out[b.header] = text
		}
	}
	return out
}

// checkParams demands that the agent's Mcp-Param headers are exactly those that
// its arguments give.
func (c *mcpCall) checkParams(want map[string]string) *rpcError {
	for name, values := range c.headers {
		if strings.HasPrefix(name, headerParam) && decodeHeader(want[name]) != decodeHeader(values[0]) {
			return rpcErrorf(http.StatusBadRequest, codeHeader, "header mismatch: %s is not what the arguments say", clip(name, 80))
		}
	}
	for name, text := range want {
		if c.revision == rev2026 && text != "" && c.headers.Get(name) == "" {
			return rpcErrorf(http.StatusBadRequest, codeHeader, "header mismatch: %s is missing", name)
		}
	}
	return nil
}

// headerText is a value in the form of SEP-2243; only short plain values have one.
func headerText(v any) (string, bool) {
	var text string
	switch v := v.(type) {
	case string:
		text = v
	case bool:
		text = strconv.FormatBool(v)
	case float64:
		if v != float64(int64(v)) {
			return "", false
		}
		text = strconv.FormatInt(int64(v), 10)
	default:
		return "", false
	}
	plain := strings.TrimSpace(text) == text && !strings.HasPrefix(text, "=?base64?")
	for _, r := range text {
		plain = plain && r >= 0x20 && r < 0x7f
	}
	if !plain {
		text = "=?base64?" + base64.StdEncoding.EncodeToString([]byte(text)) + "?="
	}
	return text, true
}

func decodeHeader(s string) string {
	inner, ok := strings.CutPrefix(s, "=?base64?")
	if !ok {
		return s
	}
	inner, ok = strings.CutSuffix(inner, "?=")
	if raw, err := base64.StdEncoding.DecodeString(inner); ok && err == nil {
		return string(raw)
	}
	return s
}
