package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"omega/internal/strictjson"
)

// The revisions of MCP that are spoken, newest first.
const (
	rev2026 = "2026-07-28" // stateless: server/discover, headers mirror the body
	rev2025 = "2025-11-25"
	rev0618 = "2025-06-18"
	rev0326 = "2025-03-26" // what a request without the header means; not negotiated
)

var revisions = []string{rev2026, rev2025, rev0618}

// JSON-RPC 2.0 section 5.1, and MCP 2026-07-28 for the last two.
const (
	codeParse       = -32700
	codeInvalid     = -32600
	codeNoMethod    = -32601
	codeParams      = -32602
	codeInternal    = -32603
	codeHeader      = -32020 // headers and body differ
	codeCapability  = -32021 // the client declared no such capability
	codeUnsupported = -32022 // protocol revision
)

// rpcError is an error in JSON-RPC's form, with the HTTP status that carries it.
type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Data    any    `json:"data,omitempty"`
	status  int
	entered bool // an entry of the log says so already
}

func (e *rpcError) Error() string { return e.Message }

func rpcErrorf(status, code int, format string, args ...any) *rpcError {
	return &rpcError{Code: code, Message: clip(fmt.Sprintf(format, args...), 600), status: status}
}

// request is one JSON-RPC message of an agent: a request, a notification, or
// the answer to what a server asked.
type request struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
	Result  json.RawMessage `json:"result"`
	Error   json.RawMessage `json:"error"`
}

func (m *request) isAnswer() bool { return m.Method == "" }

// idForm is what MCP allows as an id: a string or an integer.
var idForm = regexp.MustCompile(`^(-?(0|[1-9][0-9]{0,15})|".{0,200}")$`)

var methodForm = regexp.MustCompile(`^[a-zA-Z0-9/_-]{1,64}$`)

// parseRequest reads exactly one message; a batch is not an object, so it is
// refused.
func parseRequest(b []byte) (*request, *rpcError) {
	var m request
	if err := strictjson.Decode(b, &m, strictjson.Limits{MaxBytes: maxCall}); err != nil {
		return nil, rpcErrorf(http.StatusBadRequest, codeParse, "one JSON-RPC request is wanted, without batches or duplicate keys: %v", err)
	}
	switch {
	case m.JSONRPC != "2.0":
		return nil, rpcErrorf(http.StatusBadRequest, codeInvalid, "jsonrpc is not 2.0")
	case len(m.Result) > 0 || len(m.Error) > 0:
		if m.Method != "" || len(m.Params) > 0 || len(m.Result) > 0 == (len(m.Error) > 0) || !idForm.Match(m.ID) {
			return nil, rpcErrorf(http.StatusBadRequest, codeInvalid, "neither a request nor an answer")
		}
	case !methodForm.MatchString(m.Method):
		return nil, rpcErrorf(http.StatusBadRequest, codeInvalid, "no method")
	case len(m.ID) > 0 && !idForm.Match(m.ID):
		m.ID = nil
		return nil, rpcErrorf(http.StatusBadRequest, codeInvalid, "id is neither a short text nor an integer")
	case len(m.ID) == 0 && !strings.HasPrefix(m.Method, "notifications/"):
		return nil, rpcErrorf(http.StatusBadRequest, codeInvalid, "%s needs an id", m.Method)
	case len(m.ID) > 0 && strings.HasPrefix(m.Method, "notifications/"):
		return nil, rpcErrorf(http.StatusBadRequest, codeInvalid, "%s has an id", m.Method)
	}
	return &m, nil
}

// params decodes the parameters of a method; unknown ones are refused unless
// loose, and _meta is read where the type has it.
func (m *request) params(into any, loose bool) *rpcError {
	raw := m.Params
	if len(raw) == 0 || string(raw) == "null" {
		raw = json.RawMessage("{}")
	}
	limits := strictjson.Limits{MaxBytes: maxCall, AllowUnknown: loose}
	if err := strictjson.Decode(raw, into, limits); err != nil {
		return rpcErrorf(http.StatusOK, codeParams, "parameters of %s: %v", m.Method, err)
	}
	return nil
}

// replyRPC writes a result or an error for a request.
func replyRPC(w http.ResponseWriter, id json.RawMessage, result any, fault *rpcError) {
	if len(id) == 0 {
		id = json.RawMessage("null")
	}
	if fault != nil {
		reply(w, fault.status, map[string]any{"jsonrpc": "2.0", "id": id, "error": fault})
		return
	}
	if raw, canonical := result.(json.RawMessage); canonical { // made by give
		replyBytes(w, http.StatusOK, slices.Concat([]byte(`{"id":`), id, []byte(`,"jsonrpc":"2.0","result":`), raw, []byte("}")))
		return
	}
	reply(w, http.StatusOK, map[string]any{"jsonrpc": "2.0", "id": id, "result": result})
}

// answer is one JSON-RPC message of an upstream.
type answer struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
	Result  json.RawMessage `json:"result"`
	Error   *struct {
		Code    int             `json:"code"`
		Message string          `json:"message"`
		Data    json.RawMessage `json:"data"`
	} `json:"error"`
}

// maxForeignID bounds what is kept of a server's question until it is answered.
const maxForeignID = 256

// parseAnswer reads one message of an upstream.
func parseAnswer(b []byte) (*answer, error) {
	var a answer
	limits := strictjson.Limits{MaxBytes: maxAnswer, MaxDepth: maxAnswerDepth}
	if err := strictjson.Decode(b, &a, limits); err != nil {
		return nil, err
	}
	if a.JSONRPC != "2.0" {
		return nil, errors.New("answer is not JSON-RPC 2.0")
	}
	if len(a.ID) > maxForeignID {
		return nil, errors.New("answer has a long id")
	}
	return &a, nil
}
