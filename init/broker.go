package main

import (
	"context"
	"fmt"

	"omega/attest/kbs/rcar"
	"omega/init/internal/signer"
	"omega/internal/wire"
)

// brokerAttester is a kbs.Attester: the signer, asked over a channel. Its keys
// never come here.
type brokerAttester struct{ signer *wire.Client }

// AttestKey has the signer attest for a broker's nonce, with a new key of its own.
func (b brokerAttester) AttestKey(ctx context.Context, nonce string) (attestation []byte, key uint64, err error) {
	var reply brokerAttestReply
	_, err = b.signer.Call(ctx, opBrokerAttest, brokerAttestRequest{Nonce: nonce}, &reply)
	return reply.Attestation, reply.Key, err
}

// UnwrapKey has the signer unwrap a content key.
func (b brokerAttester) UnwrapKey(ctx context.Context, key uint64, w rcar.Wrapped) ([32]byte, error) {
	var reply brokerUnwrapReply
	_, err := b.signer.Call(ctx, opBrokerUnwrap, brokerUnwrapRequest{Key: key, Ephemeral: w.Ephemeral[:], Wrapped: w.Key[:]}, &reply)
	return reply.Key, err
}

// brokerHandlers answer one of those who ask key brokers; each has handshakes of
// its own.
func (s *signerChild) brokerHandlers() map[string]wire.Handler {
	b := &brokerSide{signer: s}
	return map[string]wire.Handler{opBrokerAttest: handle(b.attest), opBrokerUnwrap: handle(b.unwrap)}
}

// joined adds a handler to a table.
func joined(to map[string]wire.Handler, op string, h wire.Handler) map[string]wire.Handler {
	to[op] = h
	return to
}

// brokerSide is the signer's side of one of them.
type brokerSide struct {
	signer *signerChild
	broker *signer.Broker // made once there is a signer; guarded by the signer child
}

func (b *brokerSide) get() (*signer.Broker, error) {
	k, err := b.signer.get()
	if err != nil {
		return nil, err
	}
	b.signer.mu.Lock()
	defer b.signer.mu.Unlock()
	if b.broker == nil {
		b.broker = k.Broker()
	}
	return b.broker, nil
}

func (b *brokerSide) attest(ctx context.Context, req brokerAttestRequest) (brokerAttestReply, error) {
	broker, err := b.get()
	if err != nil {
		return brokerAttestReply{}, err
	}
	attestation, key, err := broker.AttestKey(ctx, req.Nonce)
	return brokerAttestReply{Attestation: attestation, Key: key}, err
}

func (b *brokerSide) unwrap(ctx context.Context, req brokerUnwrapRequest) (brokerUnwrapReply, error) {
	broker, err := b.get()
	if err != nil {
		return brokerUnwrapReply{}, err
	}
	var w rcar.Wrapped
	if len(req.Ephemeral) != len(w.Ephemeral) || len(req.Wrapped) != len(w.Key) {
		return brokerUnwrapReply{}, fmt.Errorf("wrapped key of %d and %d bytes", len(req.Ephemeral), len(req.Wrapped))
	}
	copy(w.Ephemeral[:], req.Ephemeral)
	copy(w.Key[:], req.Wrapped)
	key, err := broker.UnwrapKey(ctx, req.Key, w)
	return brokerUnwrapReply{Key: key}, err
}
