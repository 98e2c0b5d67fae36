package main

import (
	"encoding/json"

	"omega/attest"
)

// What callers ask of agents, and what agents' calls ask of people.
const (
	opInvoke  = "invoke"  // front -> gateway, one file: the input; an answer has one too, the output
	opPending = "pending" // front -> gateway; the answer has one file, the JSON of the questions
	opApprove = "approve" // front -> gateway
	opProve   = "prove"   // gateway -> log
)

// invokeRequest is a caller's request to an agent; its input is the file beside
// it, a sealed memory file.
type invokeRequest struct {
	Agent       string   `json:"agent"`
	Session     string   `json:"session"`
	Callers     []string `json:"callers"`
	Subject     string   `json:"subject"`
	Peer        string   `json:"peer,omitempty"`
	ContentType string   `json:"content_type"`
}

// invokeReply answers invokeRequest. Without a refusal there is one file beside
// it, the output.
type invokeReply struct {
	Refused     *refusal        `json:"refused,omitempty"`
	Instance    string          `json:"instance"`
	Labels      []string        `json:"labels"`
	ContentType string          `json:"content_type"`
	Statement   json.RawMessage `json:"statement,omitempty"` // attest.SignedInvocation
}

// refusal is the gateway's word for programs and its words for people.
type refusal struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// pendingRequest asks for the questions that these callers may answer.
type pendingRequest struct {
	Callers []string `json:"callers"`
}

// approveRequest hands in a person's signed answer, still foreign.
type approveRequest struct {
	Callers   []string `json:"callers"`
	Statement []byte   `json:"statement"`
}

// approveReply says in which entry the answer was taken, or why it was not.
type approveReply struct {
	Refused *refusal `json:"refused,omitempty"`
	Entry   uint64   `json:"entry"`
}

// proveRequest asks for the proof that an entry stands in the log.
type proveRequest struct {
	Index uint64 `json:"index"`
}

// proveReply is the entry's leaf hash, and its inclusion proof in the tree of
// that size, whose checkpoint is signed.
type proveReply struct {
	Leaf attest.Bytes32   `json:"leaf"`
	Size uint64           `json:"size"`
	Path []attest.Bytes32 `json:"path"`
}
