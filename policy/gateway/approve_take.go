package gateway

import (
	"context"
	"encoding/hex"
	"errors"
	"time"

	"omega/internal/strictjson"
	"omega/policy"
	"omega/policy/provenance"
)

// Approve takes a person's signed answer, handed in by one of the policy's
// callers: it is entered into the log, once, and then has its effect. It returns
// the entry's index. The error is a *Refusal.
func (g *Gateway) Approve(ctx context.Context, callers []string, raw []byte) (uint64, error) {
	answer, err := g.cfg.Document.VerifyApproval(raw)
	if errors.Is(err, policy.ErrSignature) {
		return 0, refused(RefusedSigner, "%v", err)
	}
	if err != nil {
		return 0, refused(RefusedForm, "%v", err)
	}
	a := &g.approvals
	a.taking.Lock()
	defer a.taking.Unlock()
	p, err := g.question(callers, answer)
	if err != nil {
		return 0, err
	}
	if p.Widen == nil && !p.link.state.hasRoom(g.cfg.Now()) {
		return 0, refused(RefusedBusy, "instance %s has %d approved calls that it has not made", p.Instance, maxAnswers)
	}
	index, err := p.link.recordApproval(ctx, p, answer)
	if err != nil {
		g.cfg.Log.Error("approval not recorded", "agent", p.Instance, "error", err)
		return 0, refused(RefusedLog, "the provenance log did not take the approval, so it has no effect")
	}
	return index, a.take(g, p, answer)
}

// question finds what an answer is for, and checks that it can be taken.
func (g *Gateway) question(callers []string, answer *policy.Approval) (*pending, error) {
	a, now := &g.approvals, g.cfg.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expire(now)
	if answer.Boot != g.cfg.Boot {
		return nil, refused(RefusedOther, "%v: it is for another boot", policy.ErrApproval)
	}
	p := a.open[answer.Entry]
	if p != nil {
		if _, ok := g.cfg.Document.Requester(callers, policy.RightApprove, p.link.agent.Name); !ok {
			p = nil
		}
	}
	if p == nil {
		return nil, refused(RefusedQuestion, "entry %d is no open question: it was answered, its time is over, or it is not yours to approve", answer.Entry)
	}
	err := a.used.Check(answer, p.Question, now)
	switch {
	case errors.Is(err, policy.ErrApprovalOver):
		return nil, refused(RefusedExpired, "%v", err)
	case err != nil:
		return nil, refused(RefusedOther, "%v", err)
	}
	return p, nil
}

// recordApproval enters an answer before it has its effect.
func (l *link) recordApproval(ctx context.Context, p *pending, answer *policy.Approval) (uint64, error) {
	e := l.entry(provenance.KindApproval, p.action, p.resource)
	e.Decision = provenance.Permit
	said := map[string]any{"principal": answer.Principal, "question": p.Entry, "digest": hex.EncodeToString(p.Digest[:]),
		"expires": answer.Expires.UTC().Format(time.RFC3339)}
	if p.Widen != nil {
		said["widen"] = p.Widen
	}
	var err error
	if e.Result, err = strictjson.Canonical(said); err != nil {
		return 0, err
	}
	return l.record(ctx, e)
}

// take uses up an answer that has been entered, and lets it have its effect.
func (a *approvals) take(g *Gateway, p *pending, answer *policy.Approval) error {
	now := g.cfg.Now()
	s := p.link.state
	s.mu.Lock()
	defer s.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.used.Consume(answer, p.Question, now); err != nil {
		return refused(RefusedExpired, "%v", err)
	}
	delete(a.open, p.Entry)
	defer close(p.done)
	if p.Widen != nil {
		s.Widen(p.Widen...)
		return nil
	}
	if s.answers == nil {
		s.answers = map[answered]approvedCall{}
	}
	s.answers[answered{p.Digest, answer.Principal}] = approvedCall{until: answer.Expires}
	return nil
}
