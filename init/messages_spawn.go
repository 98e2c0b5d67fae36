package main

import "omega/attest"

// What is started when somebody needs it: MCP servers that are bundles, one for
// each agent, and agents whose policy wants a sandbox for each session. The
// gateway knows when; sandboxd, which starts them, asks it.

// Operations from sandboxd to the gateway.
const (
	opOffer   = "offer"   // an admitted bundle that is started when it is wanted
	opOrders  = "orders"  // waits until the gateway wants something started or ended
	opOrdered = "ordered" // what came of one order
)

// offerRequest names an admitted bundle that orders may name.
type offerRequest struct {
	Instance string `json:"instance"` // as it was deployed
	Name     string `json:"name"`     // of the agent
	// Engine says that it is an inference engine.
	Engine *engineOffer `json:"engine,omitempty"`
}

// engineOffer is what the gateway knows of an engine.
type engineOffer struct {
	Bundle    attest.Bytes32 `json:"bundle"`
	Health    string         `json:"health,omitempty"`
	Processes int            `json:"processes"`
}

// order is what the gateway wants.
type order struct {
	ID       uint64 `json:"id"`       // 0: nobody waits for what comes of it
	Offer    string `json:"offer"`    // the deployed instance whose bundle it is
	Instance string `json:"instance"` // of the sandbox
	Stop     bool   `json:"stop,omitempty"`
	Agent    string `json:"agent,omitempty"` // of an engine: whose adapters it has
}

// ordersReply answers opOrders; there is at least one.
type ordersReply struct {
	Orders []order `json:"orders"`
}

// orderedRequest says what came of an order: nothing, or why it was not done.
type orderedRequest struct {
	ID    uint64 `json:"id"`
	Error string `json:"error,omitempty"`
}
