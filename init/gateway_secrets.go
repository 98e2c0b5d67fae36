package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"omega/attest/kbs"
	"omega/policy"
	"omega/policy/gateway"
)

const (
	// secretTime bounds one handshake with the key broker.
	secretTime = 30 * time.Second
	// secretPause is how long a refusal is believed: a broker that says no is not
	// asked for each call of an agent.
	secretPause = 10 * time.Second
)

// Why a secret is not there. These are said to auditors; what the broker said
// besides stays in the log of the child.
var (
	errNoBroker   = errors.New("the policy names no key broker that has it")
	errBrokerNo   = errors.New("the key broker refused this platform: it releases nothing to an emulated one, nor to one that its own policy does not accept")
	errBrokerAway = errors.New("the key broker cannot be reached, or is not the one that the policy names")
	errNotASecret = errors.New("the policy does not name this secret")
)

// secrets are the values of the secrets that the policy names. Each is asked for
// when it is needed first, and kept in this process's memory alone.
type secrets struct {
	resources map[string]string // by name
	get       func(ctx context.Context, resource string) ([]byte, error)
	log       *slog.Logger
	now       func() time.Time

	mu   sync.Mutex // guards what follows
	kept map[string]*keptSecret
}

// keptSecret is one of them, or why it is not there.
type keptSecret struct {
	once  chan struct{} // closed when the broker has answered
	value []byte
	err   error
	until time.Time // a refusal is believed until then
}

// newSecrets prepares to ask the broker that the policy names; without one there
// are no secrets.
func newSecrets(d *policy.Document, transport http.RoundTripper, a kbs.Attester, log *slog.Logger) (*secrets, error) {
	s := &secrets{resources: d.SecretResources(), log: log, now: time.Now, kept: map[string]*keptSecret{}}
	if d.Broker == nil {
		return s, nil
	}
	client, err := kbs.New(d.Broker.URL, transport, a)
	if err != nil {
		return nil, err
	}
	s.get = client.Get
	return s, nil
}

// secrets asks the policy's broker, with the signer's evidence.
func (g *gatewayChild) secrets(d *policy.Document, roots *x509.CertPool, dial map[string]string) (*secrets, error) {
	signer, err := g.c.client("signer")
	if err != nil {
		return nil, err
	}
	var transport http.RoundTripper
	if d.Broker != nil {
		transport = gateway.Transport(roots, dial, d.Broker.Private, d.Broker.Key)
	}
	return newSecrets(d, transport, brokerAttester{signer}, g.c.log)
}

// value returns a secret by its name. Those who ask while the broker is asked
// wait for the one answer.
func (s *secrets) value(name string) ([]byte, error) {
	resource, named := s.resources[name]
	switch {
	case !named:
		return nil, errNotASecret
	case s.get == nil || resource == "":
		return nil, errNoBroker
	}
	s.mu.Lock()
	k := s.kept[name]
	fetch := k == nil
	if k != nil {
		select {
		case <-k.once:
			fetch = k.err != nil && !s.now().Before(k.until)
		default:
		}
	}
	if fetch {
		k = &keptSecret{once: make(chan struct{})}
		s.kept[name] = k
	}
	s.mu.Unlock()
	if fetch {
		s.fetch(k, name, resource)
	}
	<-k.once
	return k.value, k.err
}

// fetch asks the broker and keeps what came of it.
func (s *secrets) fetch(k *keptSecret, name, resource string) {
	defer close(k.once)
	ctx, cancel := context.WithTimeout(context.Background(), secretTime)
	defer cancel()
	value, err := s.get(ctx, resource)
	switch {
	case err == nil:
		k.value = value
		return
	case errors.Is(err, kbs.ErrRefused):
		k.err = fmt.Errorf("%s: %w", name, errBrokerNo)
	default:
		k.err = fmt.Errorf("%s: %w", name, errBrokerAway)
	}
	k.until = s.now().Add(secretPause)
	s.log.Warn("secret", "name", name, "error", err)
}
