package policy

import "strings"

// The actions that a permit can name.
const (
	ActionCall         = "mcp.tools/call"     // resource: SERVER/TOOL
	ActionList         = "mcp.tools/list"     // resource: SERVER
	ActionResourceRead = "mcp.resources/read" // resource: SERVER
	ActionResourceList = "mcp.resources/list" // resource: SERVER
	ActionPromptGet    = "mcp.prompts/get"    // resource: SERVER/PROMPT
	ActionPromptList   = "mcp.prompts/list"   // resource: SERVER
	ActionSampling     = "mcp.sampling"       // resource: SERVER, which asks the agent's model
	ActionElicitation  = "mcp.elicitation"    // resource: SERVER, which asks the agent's user
	ActionRoots        = "mcp.roots"          // resource: SERVER, which asks what the agent works on
	ActionComplete     = "mcp.completion"     // resource: SERVER
	ActionSubscribe    = "mcp.resources/subscribe"
	ActionListen       = "mcp.subscriptions/listen"
	ActionLogLevel     = "mcp.logging/setLevel"
	ActionHear         = "mcp.session/listen"    // resource: SERVER; GET, implied by any permit for the server
	ActionEnd          = "mcp.session/end"       // resource: SERVER; DELETE, the same
	ActionChat         = "llm.chat"              // resource: MODEL
	ActionResponses    = "llm.responses"         // resource: MODEL
	ActionEmbeddings   = "llm.embeddings"        // resource: MODEL
	ActionProvider     = "llm.provider"          // resource: MODEL; what its provider runs, fetches or keeps itself
	ActionSend         = "a2a.message/send"      // resource: PEER
	ActionStream       = "a2a.message/stream"    // resource: PEER
	ActionTaskGet      = "a2a.tasks/get"         // resource: PEER
	ActionTaskCancel   = "a2a.tasks/cancel"      // resource: PEER
	ActionResubscribe  = "a2a.tasks/resubscribe" // resource: PEER
	ActionCard         = "a2a.card"              // resource: PEER; implied by any permit to talk to it
	ActionReceive      = "a2a.receive"           // resource: PEER, an agent of another platform, whose request it is
	ActionHTTP         = "http.request"          // resource: WEB
	ActionConnect      = "http.connect"          // resource: WEB, unopened TLS
	ActionDataRead     = "data.read"             // resource: DATA
	ActionDataWrite    = "data.write"            // resource: DATA
	ActionInvoke       = "agent.invoke"          // resource: AGENT; a caller's request, permitted by who calls
	ActionAnswer       = "agent.answer"          // resource: AGENT; its answer to a caller, permitted by what it has read
)

// A kind of resource says which list of the document names it.
const (
	kindTool   = "SERVER/NAME"
	kindServer = "SERVER"
	kindModel  = "MODEL"
	kindPeer   = "PEER"
	kindWeb    = "WEB"
	kindData   = "DATA"
)

// Action is what the policy knows about one action.
type Action struct {
	Name string
	Kind string // of its resource
	// Args are what the gateway states about a call. A permit may constrain
	// them; those that it does not name may have any value. Empty for actions
	// whose arguments are the agent's own: there, what is not named is denied.
	Args []string
}

// ChatArgs are the arguments that the gateway states for llm.chat.
var ChatArgs = append([]string{"max_tokens", "messages", "request_bytes", "request_sha256", "stream", "tools"}, EngineArgs...)

// EngineArgs are what it states beside where the model is an engine on the platform:
// digests in hex.
var EngineArgs = []string{"engine_bundle", "engine_model", "engine_adapters"}

var (
	messageArgs = []string{"bytes", "context", "files", "text", "message_sha256"}
	taskArgs    = []string{"task"}
	receiveArgs = []string{"bytes", "context", "files", "text", "message_sha256", "method", "task"}
	httpArgs    = []string{"body_sha256", "bytes", "content_type", "header_names", "host", "method", "path", "port", "query"}
	dataArgs    = []string{"bytes", "name", "sha256"}
)

// Actions is every action, in the order of the documentation.
var Actions = []Action{
	{ActionCall, kindTool, nil},
	{ActionList, kindServer, nil},
	{ActionResourceRead, kindServer, nil},
	{ActionResourceList, kindServer, nil},
	{ActionPromptGet, kindTool, nil},
	{ActionPromptList, kindServer, nil},
	{ActionSampling, kindServer, []string{"max_tokens", "messages", "request_bytes", "request_sha256", "tools"}},
	{ActionElicitation, kindServer, []string{"fields", "mode", "request_bytes", "request_sha256", "url"}},
	{ActionRoots, kindServer, nil},
	// What the agent answers is a way out: stated by digest, or in full.
	{"mcp.sampling/answer", kindServer, []string{"answer_bytes", "answer_sha256"}},
	{"mcp.elicitation/answer", kindServer, nil},
	{"mcp.roots/answer", kindServer, nil},
	{ActionComplete, kindServer, nil},
	{ActionSubscribe, kindServer, nil},
	{ActionListen, kindServer, nil},
	{ActionLogLevel, kindServer, nil},
	{"mcp.notifications/progress", kindServer, nil},
	{"mcp.notifications/message", kindServer, nil},
	{"mcp.notifications/resources/updated", kindServer, nil},
	{"mcp.notifications/resources/list_changed", kindServer, nil},
	{"mcp.notifications/tools/list_changed", kindServer, nil},
	{"mcp.notifications/prompts/list_changed", kindServer, nil},
	{"mcp.notifications/subscriptions/acknowledged", kindServer, nil},
	{"mcp.notifications/elicitation/complete", kindServer, nil},
	{ActionChat, kindModel, ChatArgs},
	{ActionResponses, kindModel, ChatArgs},
	{ActionEmbeddings, kindModel, append([]string{"inputs", "request_bytes", "request_sha256"}, EngineArgs...)},
	{ActionProvider, kindModel, nil},
	{ActionSend, kindPeer, messageArgs},
	{ActionStream, kindPeer, messageArgs},
	{ActionTaskGet, kindPeer, taskArgs},
	{ActionTaskCancel, kindPeer, taskArgs},
	{ActionResubscribe, kindPeer, taskArgs},
	{ActionCard, kindPeer, nil},
	{ActionReceive, kindPeer, receiveArgs},
	{ActionHTTP, kindWeb, httpArgs},
	{ActionConnect, kindWeb, []string{"host", "port"}},
	{ActionDataRead, kindData, dataArgs},
	{ActionDataWrite, kindData, dataArgs},
}

// ActionNamed returns what is known of an action that permits can name.
func ActionNamed(name string) (Action, bool) {
	for _, a := range Actions {
		if a.Name == name {
			return a, true
		}
	}
	return Action{}, false
}

// upstream is what the document says of the other side of a permit: what its
// answers are and who reads what is sent there.
func (d *Document) upstream(action, resource string) (r *Result, readers []string) {
	a, _ := ActionNamed(action)
	name, _, _ := strings.Cut(resource, "/")
	switch a.Kind {
	case kindTool, kindServer:
		if s, ok := d.Server(name); ok {
			return s.Result, s.Readers
		}
	case kindModel:
		if m, ok := d.Model(resource); ok {
			return m.Result, m.Readers
		}
	case kindPeer:
		if p, ok := d.Peer(resource); ok {
			return p.Result, p.Readers
		}
	case kindWeb:
		if w, ok := d.WebNamed(resource); ok {
			return w.Result, w.Readers
		}
	case kindData:
		if s, ok := d.Dataset(resource); ok {
			return s.Result, s.Readers
		}
	}
	return nil, nil
}
