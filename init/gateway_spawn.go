package main

import (
	"context"
	"errors"
	"sync"

	"omega/policy/gateway"
)

// maxOrders bounds the orders that sandboxd has not taken yet, and how many it
// is told at once.
const (
	maxOrders   = 4096
	maxOrdersAt = 64
)

var errOrders = errors.New("too many sandboxes are wanted at once")

// starter asks sandboxd for sandboxes. sandboxd is the client of their channel,
// so it comes for its orders.
type starter struct {
	more chan struct{} // one slot: there may be orders

	mu      sync.Mutex // guards what follows
	last    uint64
	orders  []order
	waiting map[uint64]chan error
}

func newStarter() *starter {
	return &starter{more: make(chan struct{}, 1), waiting: map[uint64]chan error{}}
}

func (s *starter) put(o order, answer chan error) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.orders) >= maxOrders {
		return 0, errOrders
	}
	if answer != nil {
		s.last++
		o.ID = s.last
		s.waiting[o.ID] = answer
	}
	s.orders = append(s.orders, o)
	select {
	case s.more <- struct{}{}:
	default:
	}
	return o.ID, nil
}

// Start has the bundle behind an offer started under an instance name of its
// own. It returns once the gateway serves that sandbox.
func (s *starter) Start(ctx context.Context, offer, instance string) error {
	return s.StartEngine(ctx, offer, instance, "")
}

// StartEngine is Start of an engine, with the adapters of an agent's instance.
func (s *starter) StartEngine(ctx context.Context, offer, instance, agent string) error {
	answer := make(chan error, 1)
	id, err := s.put(order{Offer: offer, Instance: instance, Agent: agent}, answer)
	if err != nil {
		return err
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		s.mu.Lock()
		delete(s.waiting, id)
		s.mu.Unlock()
		s.Stop(offer, instance) // it may have been started meanwhile
		return ctx.Err()
	}
}

// Stop has a sandbox that Start started ended.
func (s *starter) Stop(offer, instance string) {
	_, _ = s.put(order{Offer: offer, Instance: instance, Stop: true}, nil)
}

// take waits for orders.
func (s *starter) take(ctx context.Context, _ nothing) (ordersReply, error) {
	for {
		s.mu.Lock()
		n := min(len(s.orders), maxOrdersAt)
		out := ordersReply{Orders: append([]order(nil), s.orders[:n]...)}
		s.orders = append([]order(nil), s.orders[n:]...)
		s.mu.Unlock()
		if n > 0 {
			return out, nil
		}
		select {
		case <-s.more:
		case <-ctx.Done():
			return ordersReply{}, ctx.Err()
		}
	}
}

// done tells whoever waits what came of an order.
func (s *starter) done(_ context.Context, req orderedRequest) (nothing, error) {
	s.mu.Lock()
	answer := s.waiting[req.ID]
	delete(s.waiting, req.ID)
	s.mu.Unlock()
	switch {
	case answer == nil:
	case req.Error != "":
		answer <- errors.New(clip(req.Error, maxReason))
	default:
		answer <- nil
	}
	return nothing{}, nil
}

// offer makes an admitted bundle known to the gateway.
func (g *gatewayChild) offer(_ context.Context, req offerRequest) (nothing, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gw == nil {
		return nothing{}, errNotStarted
	}
	if e := req.Engine; e != nil {
		g.gw.OfferEngine(req.Name, gateway.EngineOffer{Instance: req.Instance, Bundle: e.Bundle, Health: e.Health, Processes: e.Processes})
		return nothing{}, nil
	}
	g.gw.Offer(req.Name, req.Instance)
	return nothing{}, nil
}
