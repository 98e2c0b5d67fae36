package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"omega/agentloader/sandbox"
	"omega/attest"
	"omega/internal/wire"
)

// stopWait is how long a start waits for the one before to be gone.
const stopWait = 10 * time.Second

// offers are the admitted bundles that are started when the gateway wants them.
// Each instance is one row in the table of agents, which stays *running* while
// it may be started again.
type offers struct {
	mu   sync.Mutex // guards what follows
	kept map[string]*offer
}

// offer is one of them.
type offer struct {
	req   runRequest
	image *os.File
	own   *member // as it was deployed: whoever stops that stops all

	mu   sync.Mutex // guards what follows
	rows map[string]*offered
	over bool // the rows are looked through for the last time: none starts that comes after it
}

var errWithdrawn = errors.New("the bundle's deployment has ended")

// offered is one instance of an offer.
type offered struct {
	agent attest.Agent
	req   runRequest
	set   attest.Bytes32 // of an engine: its adapters
	*member

	starting sync.Mutex       // one start at a time, and none once it has retired
	box      *sandbox.Sandbox // nil while none runs; guarded by the offer
}

// offer keeps an admitted bundle and tells the gateway of it.
func (s *sandboxd) offer(life, ctx context.Context, req runRequest, image *os.File) error {
	agent, err := s.admit(ctx, req)
	if err != nil {
		return errors.Join(err, image.Close())
	}
	o := &offer{req: req, image: image, own: s.roster.add(agent), rows: map[string]*offered{}}
	s.offers.mu.Lock()
	if s.offers.kept == nil {
		s.offers.kept = map[string]*offer{}
	}
	s.offers.kept[req.Instance] = o
	s.offers.mu.Unlock()
	told := offerRequest{Instance: req.Instance, Name: req.Name}
	if e := req.Engine; e != nil {
		told.Engine = &engineOffer{Bundle: req.Bundle, Health: req.Serve.Health, Processes: e.Most()}
	} else {
		s.keepWarm(req, image)
	}
	go s.withdraw(life, o, agent)
	_, err = s.gateway.Call(ctx, opOffer, told, nil)
	return err
}

// withdraw waits until an offer is stopped, and ends what runs of it.
func (s *sandboxd) withdraw(life context.Context, o *offer, agent attest.Agent) {
	select {
	case <-life.Done():
	case <-o.own.stop:
	}
	s.offers.mu.Lock()
	delete(s.offers.kept, agent.Instance)
	s.offers.mu.Unlock()
	s.pool.Forget(agent.Instance)
	o.mu.Lock()
	o.over = true
	rows := slices.Collect(maps.Values(o.rows))
	o.mu.Unlock()
	for _, row := range rows {
		if _, err := s.roster.end(life, row.Instance, stopGrace); err != nil {
			s.c.log.Error("stopping a sandbox", "instance", row.Instance, "error", err)
		}
	}
	_ = o.image.Close()
	s.leaveDisks(life, agent.Instance)
	if err := s.setState(life, agent.Index, s.roster.over(o.own, attest.AgentExited)); err != nil {
		s.c.log.Error("recording an agent's end", "instance", agent.Instance, "error", err)
	}
	s.tellExit(agent.Instance, 0)
}

// follow carries out the gateway's orders, for as long as it gives any.
func (s *sandboxd) follow(life context.Context) {
	for {
		var reply ordersReply
		if _, err := s.gateway.Call(life, opOrders, nothing{}, &reply); err != nil {
			if life.Err() == nil && !wire.Gone(err) {
				s.c.log.Error("asking for orders", "error", err)
			}
			return
		}
		for _, o := range reply.Orders {
			s.obey(life, o)
		}
	}
}

// obey begins an order. What is to be stopped is found at once, so that a start
// that was ordered later is not what it stops.
func (s *sandboxd) obey(life context.Context, o order) {
	s.offers.mu.Lock()
	from := s.offers.kept[o.Offer]
	s.offers.mu.Unlock()
	if o.Stop {
		if box := from.running(o.Instance); box != nil {
			go func() {
				if err := box.Stop(life, stopGrace); err != nil {
					s.c.log.Error("stopping a sandbox", "instance", o.Instance, "error", err)
				}
			}()
		}
		return
	}
	go func() {
		done := orderedRequest{ID: o.ID}
		if err := s.startFrom(life, from, o); err != nil {
			s.c.log.Error("starting a sandbox that is wanted", "instance", o.Instance, "error", err)
			done.Error = err.Error()
		}
		if _, err := s.gateway.Call(life, opOrdered, done, nil); err != nil && life.Err() == nil {
			s.c.log.Error("telling what came of an order", "error", err)
		}
	}()
}

func (o *offer) running(instance string) *sandbox.Sandbox {
	if o == nil {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if row := o.rows[instance]; row != nil {
		return row.box
	}
	return nil
}

// startFrom starts one sandbox of an offer.
func (s *sandboxd) startFrom(life context.Context, from *offer, o order) error {
	if o.Agent != "" {
		return s.startEngine(life, from, o.Instance, o.Agent)
	}
	if from == nil || from.req.Engine != nil {
		return errors.New("no such bundle is deployed")
	}
	return s.startRow(life, from, o.Instance, from.req, attest.Bytes32{})
}

// startRow starts the sandbox of one instance.
func (s *sandboxd) startRow(life context.Context, from *offer, instance string, req runRequest, set attest.Bytes32) error {
	row, err := s.row(life, from, instance, req, set)
	if err != nil {
		return err
	}
	row.starting.Lock()
	defer row.starting.Unlock()
	if row.retired() {
		return errors.New("it was told to stop")
	}
	if row.set != set {
		return errors.New("this instance has other adapters")
	}
	if old := from.running(instance); old != nil {
		ctx, cancel := context.WithTimeout(life, stopWait)
		defer cancel()
		if _, err := old.Wait(ctx); err != nil {
			return fmt.Errorf("the one before still runs: %w", err)
		}
	}
	box, err := s.launch(life, row.req, row.agent, from.image)
	if err != nil {
		return err
	}
	from.mu.Lock()
	row.box = box
	from.mu.Unlock()
	if !s.roster.began(row.member, box, row.ExitCode != nil) {
		s.interrupt(life, row.agent, box)
	}
	go s.outlive(life, from, row, box)
	return nil
}

// retired reports whether the instance was told to stop.
func (o *offered) retired() bool {
	select {
	case <-o.stop:
		return true
	default:
		return false
	}
}

// outlive waits for the end of one sandbox. Its instance may be started again.
func (s *sandboxd) outlive(life context.Context, from *offer, row *offered, box *sandbox.Sandbox) {
	_, code, lines := s.collect(life, row.agent, box)
	s.roster.paused(row.member, code, lines)
	s.roster.waits(row.member)
	from.mu.Lock()
	if row.box == box {
		row.box = nil
	}
	from.mu.Unlock()
}

// waits notes that an instance will run again when it is wanted.
func (r *roster) waits(m *member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m.State, m.Since = attest.AgentAdmitted, time.Now().UTC()
}

// retire makes the end of an instance known, once it was told to stop and has.
func (s *sandboxd) retire(life context.Context, from *offer, row *offered) {
	select {
	case <-row.stop:
	case <-life.Done():
		return
	}
	row.starting.Lock()
	defer row.starting.Unlock()
	if box := from.running(row.Instance); box != nil {
		_, _ = box.Wait(life)
	}
	if row.req.Engine != nil {
		s.leaveDisks(life, row.Instance)
	}
	if err := s.setState(life, row.agent.Index, s.roster.over(row.member, attest.AgentExited)); err != nil {
		s.c.log.Error("recording an agent's end", "instance", row.Instance, "error", err)
	}
}

// row finds the instance in the table of agents, or puts it there.
func (s *sandboxd) row(life context.Context, from *offer, instance string, req runRequest, set attest.Bytes32) (*offered, error) {
	from.mu.Lock()
	row, over := from.rows[instance], from.over
	from.mu.Unlock()
	switch {
	case row != nil:
		return row, nil
	case over:
		return nil, errWithdrawn
	}
	spares := req.Instance // that of the offer: the pool keeps them by it
	req.Instance = instance
	agent, err := s.admit(life, req)
	if err != nil {
		return nil, err
	}
	if req.Engine == nil {
		req.Instance = spares // its files are the offer's
	}
	row = &offered{agent: agent, req: req, set: set, member: s.roster.add(agent)}
	from.mu.Lock()
	from.rows[instance] = row
	over = from.over
	from.mu.Unlock()
	go s.retire(life, from, row)
	if over { // withdraw has looked already, and saw nothing of this one
		_, err := s.roster.end(life, instance, 0)
		return nil, errors.Join(errWithdrawn, err)
	}
	return row, s.setState(life, agent.Index, attest.AgentRunning)
}
