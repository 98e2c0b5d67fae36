package main

import "omega/attest"

// What front and gateway tell each other about other platforms: the front has the
// keys and appraises, the gateway dials and decides. The front is the client of
// their channel, so it comes for what is to be dialled.
const (
	opPlatform = "platform" // front -> gateway, one file: the link of a platform that was appraised
	opDials    = "dials"    // front -> gateway; it waits. Two files come back: a socket to a platform, and the gateway's link for it
	opDialed   = "dialed"   // front -> gateway: what came of one
)

// platformID is a platform that was appraised.
type platformID struct {
	Boot   attest.Bytes16 `json:"boot"`
	Policy attest.Bytes32 `json:"policy"`
}

// dialsReply names what is to be dialled.
type dialsReply struct {
	ID uint64 `json:"id"`
}

// dialedRequest says what came of one.
type dialedRequest struct {
	ID       uint64     `json:"id"`
	Platform platformID `json:"platform"`
	Error    string     `json:"error,omitempty"`
}
