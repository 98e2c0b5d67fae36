package main

import "omega/attest"

// Operations from those who ask key brokers to the signer. Keys of one of them
// are not known to the other.
const (
	opBrokerAttest = "broker.attest"
	opBrokerUnwrap = "broker.unwrap"
)

// brokerAttestRequest asks for the attestation that answers a broker's nonce.
type brokerAttestRequest struct {
	Nonce string `json:"nonce"`
}

type brokerAttestReply struct {
	Attestation []byte `json:"attestation"`
	Key         uint64 `json:"key"`
}

// brokerUnwrapRequest asks for a content key that a broker wrapped.
type brokerUnwrapRequest struct {
	Key       uint64 `json:"key"`
	Ephemeral []byte `json:"ephemeral"`
	Wrapped   []byte `json:"wrapped"`
}

type brokerUnwrapReply struct {
	Key attest.Bytes32 `json:"key"`
}
