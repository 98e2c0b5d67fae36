package signer

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"

	"omega/attest/kbs/rcar"
)

// maxBrokerKeys bounds the handshakes with key brokers: those that wait for the
// device, and the keys that wait for an answer. A newer key takes the place of
// the oldest.
const maxBrokerKeys = 8

// A Broker makes evidence for key brokers and holds the keys of handshakes with
// them, which never leave it.
type Broker struct {
	signer *Signer

	mu      sync.Mutex // guards what follows
	waiting int
	last    uint64
	keys    map[uint64]*rcar.Key
}

// Broker returns what speaks to key brokers for this signer.
func (s *Signer) Broker() *Broker { return &Broker{signer: s, keys: map[uint64]*rcar.Key{}} }

// AttestKey makes the attestation that a key broker's protocol asks for: a
// report over the broker's nonce and a new key of this signer. REPORT_DATA is
// then SHA-384 over JSON that is made here, behind which 16 zeros stand; what
// attest.ReportData makes fills all 64 bytes with a labelled SHA-512. For one to
// be the other, 128 chosen bits of a SHA-512 would have to be zero.
func (b *Broker) AttestKey(ctx context.Context, nonce string) (attestation []byte, key uint64, err error) {
	if err := b.enter(); err != nil {
		return nil, 0, err
	}
	defer b.leave()
	k, err := rcar.NewKey(rand.Reader)
	if err != nil {
		return nil, 0, err
	}
	data := rcar.RuntimeData{Nonce: nonce, Key: k.JWK()}
	reportData, err := data.ReportData()
	if err != nil {
		return nil, 0, err
	}
	report, certs, err := b.signer.report(ctx, reportData)
	if err != nil {
		return nil, 0, err
	}
	if attestation, err = data.Attestation(report, certs); err != nil {
		return nil, 0, err
	}
	return attestation, b.keep(k), nil
}

// UnwrapKey unwraps a content key that a broker wrapped to the key of that
// number.
func (b *Broker) UnwrapKey(_ context.Context, key uint64, w rcar.Wrapped) ([32]byte, error) {
	b.mu.Lock()
	k := b.keys[key]
	b.mu.Unlock()
	if k == nil {
		return [32]byte{}, fmt.Errorf("key broker: key %d is not known, or not any more", key)
	}
	return k.Unwrap(w)
}

func (b *Broker) enter() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting == maxBrokerKeys {
		return ErrBusy
	}
	b.waiting++
	return nil
}

func (b *Broker) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting--
}

func (b *Broker) keep(k *rcar.Key) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	b.keys[b.last] = k
	if b.last > maxBrokerKeys {
		delete(b.keys, b.last-maxBrokerKeys)
	}
	return b.last
}
