package signer

import (
	"context"
	"crypto/ed25519"
	"errors"
	"slices"
	"time"

	"omega/attest"
)

const (
	// maxWaiting bounds how many may wait for the next report; more are refused
	// at once, so that a flood costs memory to nobody.
	maxWaiting = 64
	// maxRecent bounds the answers that are kept for those who ask again.
	maxRecent = 64
	// reportTimeout bounds one report. It is made for all who wait, so that it
	// does not end when one of them goes away.
	reportTimeout = 20 * time.Second
)

// ErrBusy reports that too many evidence requests wait already; try again later.
var ErrBusy = errors.New("evidence: too many requests are waiting")

// frozen is what one session statement speaks of.
type frozen struct {
	session attest.Session
	agents  attest.AgentSet
}

// answer is a report with one of the nonces that it answers.
type answer struct {
	frozen
	nonce         attest.NonceProof
	report, certs []byte
}

// ticket is one who waits for the next report.
type ticket struct {
	nonce attest.Bytes32
	done  chan struct{} // closed once answer or err is set
	*answer
	err error
}

// Evidence returns evidence that is fresh for nonce, with what view shows. Who
// knows this platform already is answered by the attestation key at once; all
// others wait for a report, and those who wait together share one.
func (s *Signer) Evidence(ctx context.Context, nonce [32]byte, view attest.View) (*attest.Evidence, error) {
	s.mu.Lock()
	now, err := s.freeze()
	claims, gpu, boot := s.claims, s.gpu, s.boot
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	e := &attest.Evidence{Version: attest.EvidenceVersion}
	if view.Knows(boot) {
		nonces := attest.Nonces{nonce}
		now.session.NonceRoot, now.session.NonceCount = nonces.Root(), 1
		message := attest.SessionMessage(boot, now.session.Digest())
		e.Platform, e.Signature = boot, ed25519.Sign(s.attestation, message[:])
		e.Session, e.Nonce = now.session, nonces.Proofs()[0]
		return e, view.Show(e, now.agents)
	}
	a, err := s.fresh(ctx, nonce, now)
	if err != nil {
		return nil, err
	}
	e.Report, e.Certificates, e.Boot, e.GPU = a.report, a.certs, *claims, gpu
	e.Session, e.Nonce = a.session, a.nonce
	return e, view.Show(e, a.agents)
}

// freeze is the session statement as of now, without its nonces. The caller
// holds mu.
func (s *Signer) freeze() (frozen, error) {
	if !s.frontKnown {
		return frozen{}, errIncomplete
	}
	if s.head.note == nil {
		return frozen{}, errors.New("evidence: the log has no checkpoint yet")
	}
	return frozen{attest.Session{
		Version:    attest.SessionVersion,
		Checkpoint: s.head.note,
		AgentsRoot: s.agents.Root(),
		AgentCount: uint32(s.agents.Len()),
	}, s.agents}, nil
}

// same reports whether an earlier statement said all that is so now.
func (f *frozen) same(now *frozen) bool {
	a, b := f.session, now.session
	return slices.Equal(a.Checkpoint, b.Checkpoint) && a.AgentsRoot == b.AgentsRoot && a.AgentCount == b.AgentCount
}

// fresh is an answer for nonce: a recent one if nothing has changed since, or
// one of the next report's.
func (s *Signer) fresh(ctx context.Context, nonce [32]byte, now frozen) (*answer, error) {
	t := &ticket{nonce: nonce, done: make(chan struct{})}
	s.mu.Lock()
	for _, a := range s.recent {
		if a.nonce.Nonce == t.nonce && a.same(&now) {
			s.mu.Unlock()
			return a, nil
		}
	}
	if len(s.waiting) >= maxWaiting {
		s.mu.Unlock()
		return nil, ErrBusy
	}
	s.waiting = append(s.waiting, t)
	s.mu.Unlock()
	for {
		select {
		case <-t.done:
			return t.answer, t.err
		case s.deviceTurn <- struct{}{}:
			s.serve(ctx, t)
			<-s.deviceTurn
		case <-ctx.Done():
			s.leave(t)
			return nil, ctx.Err()
		}
	}
}

// leave takes back a ticket that nobody waits for any more.
func (s *Signer) leave(t *ticket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = slices.DeleteFunc(s.waiting, func(o *ticket) bool { return o == t })
}

// serve gets one report for all who wait, unless the caller's own ticket has
// been served by somebody else meanwhile. The caller has the device's turn.
func (s *Signer) serve(ctx context.Context, own *ticket) {
	select {
	case <-own.done:
		return
	default:
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reportTimeout)
	defer cancel()
	select { // those who come now still share this report
	case <-time.After(time.Until(s.lastReport.Add(s.pace))):
	case <-ctx.Done():
	}
	s.mu.Lock()
	all := s.waiting
	s.waiting = nil
	now, err := s.freeze()
	s.mu.Unlock()
	nonces := make(attest.Nonces, len(all))
	for i, t := range all {
		nonces[i] = t.nonce
	}
	now.session.NonceRoot, now.session.NonceCount = nonces.Root(), uint32(len(nonces))
	var report, certs []byte
	if err == nil {
		report, certs, err = s.ask(ctx, attest.ReportData(s.boot, now.session.Digest()))
	}
	proofs := nonces.Proofs()
	for i, t := range all {
		if t.err = err; err == nil {
			t.answer = &answer{frozen: now, nonce: proofs[i], report: report, certs: certs}
			s.keep(t.answer)
		}
		close(t.done)
	}
}

// keep remembers an answer for the same nonce, the oldest making room.
func (s *Signer) keep(a *answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.recent) >= maxRecent {
		s.recent = slices.Delete(s.recent, 0, len(s.recent)-maxRecent+1)
	}
	s.recent = append(s.recent, a)
}
