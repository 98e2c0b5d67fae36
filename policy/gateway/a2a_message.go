package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"omega/internal/strictjson"
)

// a2aParams are the parameters of every method, in both dialects. What is not
// here is refused by name; tenants (1.0) are nobody's here.
type a2aParams struct {
	Message       *a2aMessage     `json:"message,omitempty"`
	Configuration *a2aConfig      `json:"configuration,omitempty"`
	ID            string          `json:"id,omitempty"`
	HistoryLength *int            `json:"historyLength,omitempty"`
	Metadata      json.RawMessage `json:"metadata,omitempty"`
}

// a2aConfig says how an answer is wanted.
type a2aConfig struct {
	Modes    []string        `json:"acceptedOutputModes,omitempty"`
	History  *int            `json:"historyLength,omitempty"`
	Blocking *bool           `json:"blocking,omitempty"`                   // 0.3
	AtOnce   *bool           `json:"returnImmediately,omitempty"`          // 1.0
	Push03   json.RawMessage `json:"pushNotificationConfig,omitempty"`     // refused
	Push10   json.RawMessage `json:"taskPushNotificationConfig,omitempty"` // refused
}

// a2aMessage is a message of either dialect.
type a2aMessage struct {
	Kind       string          `json:"kind,omitempty"` // 0.3: "message"
	MessageID  string          `json:"messageId"`
	ContextID  string          `json:"contextId,omitempty"`
	TaskID     string          `json:"taskId,omitempty"`
	Role       string          `json:"role"`
	Parts      []a2aPart       `json:"parts"`
	References []string        `json:"referenceTaskIds,omitempty"`
	Extensions []string        `json:"extensions,omitempty"`
	Metadata   json.RawMessage `json:"metadata,omitempty"`
}

// a2aPart is one part of a message of either dialect.
type a2aPart struct {
	Kind      string          `json:"kind,omitempty"` // 0.3: text, file or data
	Text      *string         `json:"text,omitempty"`
	File      *a2aFile        `json:"file,omitempty"`      // 0.3
	Raw       *string         `json:"raw,omitempty"`       // 1.0, base64
	URL       *string         `json:"url,omitempty"`       // 1.0
	Filename  string          `json:"filename,omitempty"`  // 1.0
	MediaType string          `json:"mediaType,omitempty"` // 1.0
	Data      json.RawMessage `json:"data,omitempty"`
	Metadata  json.RawMessage `json:"metadata,omitempty"`
}

type a2aFile struct {
	Bytes *string `json:"bytes,omitempty"`
	URI   *string `json:"uri,omitempty"`
	Name  string  `json:"name,omitempty"`
	Type  string  `json:"mimeType,omitempty"`
}

// maxPeerID bounds the ids that agents give to messages, tasks and contexts.
const maxPeerID = 200

var errPart = errors.New("a part is one of text, file and data")

// check reads a message as its dialect wants it.
func (m *a2aMessage) check(d dialect) error {
	role := m.Role == "ROLE_USER" && d == dialect10 || m.Role == "user" && d == dialect03
	switch {
	case m.MessageID == "" || !role:
		return errors.New("a message has an id and the role of the user")
	case (m.Kind == "message") != (d == dialect03) || m.Kind != "" && d == dialect10:
		return errors.New("the kind is not that of a message in this version")
	case len(m.Parts) == 0:
		return errors.New("a message has a part")
	}
	for _, id := range append([]string{m.MessageID, m.ContextID, m.TaskID}, m.References...) {
		if len(id) > maxPeerID {
			return errors.New("an id is longer than 200 bytes")
		}
	}
	for _, p := range m.Parts {
		if err := p.check(d); err != nil {
			return err
		}
	}
	return nil
}

func (p *a2aPart) check(d dialect) error {
	has := map[string]bool{"text": p.Text != nil, "file": p.File != nil, "raw": p.Raw != nil, "url": p.URL != nil, "data": len(p.Data) > 0}
	count := 0
	for _, given := range has {
		if given {
			count++
		}
	}
	if count != 1 {
		return errPart
	}
	if d == dialect10 {
		if p.Kind != "" || has["file"] {
			return errPart
		}
		return nil
	}
	if !has[p.Kind] || has["raw"] || has["url"] || p.Filename != "" || p.MediaType != "" {
		return errPart
	}
	if p.File != nil && (p.File.Bytes == nil) == (p.File.URI == nil) {
		return errors.New("a file has bytes or a URI")
	}
	return nil
}

// file states a part that is a file: its address, or what it is if it is here.
func (p *a2aPart) file() (stated string, remote bool) {
	switch {
	case p.URL != nil:
		return *p.URL, true
	case p.File != nil && p.File.URI != nil:
		return *p.File.URI, true
	case p.File != nil:
		return "data:" + p.File.Type, false
	case p.Raw != nil:
		return "data:" + p.MediaType, false
	}
	return "", false
}

// shortText is how much of a message's text the policy sees unasked. Of a longer
// one it sees all where a rule looks at it, and nothing elsewhere.
const shortText = 4 << 10

// state adds to args what the policy sees of a message. whole says that a rule
// looks at its text; remote, that a part is to be fetched from an address.
func (m *a2aMessage) state(args map[string]any, params []byte, whole bool) (remote bool) {
	files, texts := []string{}, []string{}
	for _, p := range m.Parts {
		if p.Text != nil {
			texts = append(texts, *p.Text)
		}
		if f, far := p.file(); f != "" || far {
			files, remote = append(files, f), remote || far
		}
	}
	sum := sha256.Sum256(params)
	args["bytes"], args["context"], args["files"], args["message_sha256"] = len(params), m.ContextID, files, hex.EncodeToString(sum[:])
	if text := strings.Join(texts, "\n"); whole || len(text) <= shortText {
		args["text"] = text
	}
	return remote
}

// read takes one request apart.
func (c *a2aCall) read(r *http.Request) *rpcError {
	body, err := readBody(r, maxMessage)
	if err != nil {
		return rpcErrorf(http.StatusBadRequest, codeParse, "request: %v", err)
	}
	return c.parse(body, r.Header.Get(headerA2A))
}

// headerA2A names the version that a client speaks (1.0 section 3.6).
const headerA2A = "A2A-Version"

// a2aCallForm is a request with its parameters, which are the same for all
// methods: so it is read in one pass.
type a2aCallForm struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Params  a2aParams       `json:"params"`
}

// parse reads exactly one JSON-RPC request; a batch is not an object. version is
// what its header says, which must be what the method says.
func (c *a2aCall) parse(body []byte, version string) *rpcError {
	var m a2aCallForm
	limits := strictjson.Limits{MaxBytes: maxMessage, MaxValues: maxMessageValues}
	if err := strictjson.Decode(body, &m, limits); err != nil {
		return c.misread(body, err)
	}
	if m.JSONRPC != "2.0" || !idForm.Match(m.ID) {
		return notRequest()
	}
	c.id = m.ID
	if fault := c.named(m.Method); fault != nil {
		return fault
	}
	if version != "" && version != string(c.method.dialect) {
		return rpcErrorf(http.StatusBadRequest, codeInvalid, "the header names version %s, and the method is one of %s", clip(version, 20), c.method.dialect)
	}
	c.params = m.Params
	err := c.checkParams()
	if err == nil {
		c.encoded, err = strictjson.Canonical(c.params) // what is decided is what is sent
	}
	switch {
	case errors.Is(err, errPush):
		return rpcErrorf(http.StatusOK, codeNoPush, "%s", noPush)
	case err != nil:
		return rpcErrorf(http.StatusOK, codeParams, "parameters of %s: %v", c.method.name, err)
	}
	return nil
}

func notRequest() *rpcError {
	return rpcErrorf(http.StatusBadRequest, codeInvalid, "not a request of JSON-RPC 2.0 with a method, and an id that is a short text or an integer")
}

// misread says what is wrong with a body: with all of it, or with the parameters
// of a request that can be answered.
func (c *a2aCall) misread(body []byte, why error) *rpcError {
	var m request
	if err := strictjson.Decode(body, &m, strictjson.Limits{MaxBytes: maxMessage, MaxValues: maxMessageValues}); err != nil {
		return rpcErrorf(http.StatusBadRequest, codeParse, "one JSON-RPC request is wanted, without batches or duplicate keys: %v", err)
	}
	if !idForm.Match(m.ID) || m.JSONRPC != "2.0" || len(m.Result) > 0 || len(m.Error) > 0 {
		return notRequest()
	}
	c.id = m.ID
	if fault := c.named(m.Method); fault != nil {
		return fault
	}
	return rpcErrorf(http.StatusOK, codeParams, "parameters of %s: %v", c.method.name, why)
}

// named finds the method, or says why it does not pass.
func (c *a2aCall) named(method string) *rpcError {
	if !methodForm.MatchString(method) {
		return notRequest()
	}
	for _, never := range neverA2A {
		if strings.HasPrefix(method, never.prefix) {
			return rpcErrorf(http.StatusOK, never.code, "%s", never.why)
		}
	}
	for _, known := range a2aMethods {
		if known.name == method {
			c.method = known
			return nil
		}
	}
	return rpcErrorf(http.StatusOK, codeNoMethod, "the gateway does not pass %s", method)
}

var errPush = errors.New(noPush)

func (c *a2aCall) checkParams() error {
	p := &c.params
	if !c.method.message {
		if p.ID == "" || len(p.ID) > maxPeerID || p.Message != nil || p.Configuration != nil {
			return errors.New("the id of a task is wanted, and no message")
		}
		return nil
	}
	if p.Message == nil || p.ID != "" || p.HistoryLength != nil {
		return errors.New("a message is wanted")
	}
	if o := p.Configuration; o != nil {
		if len(o.Push03) > 0 || len(o.Push10) > 0 {
			return errPush
		}
		if o.Blocking != nil && c.method.dialect == dialect10 || o.AtOnce != nil && c.method.dialect == dialect03 {
			return fmt.Errorf("configuration is not of version %s", c.method.dialect)
		}
	}
	return p.Message.check(c.method.dialect)
}
