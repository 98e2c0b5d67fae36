package agentloader

import (
	"errors"
	"fmt"
	"time"

	"omega/agentloader/bundle"
)

// Why an order is refused that a deployment from the launch config cannot be refused for.
var (
	ErrCaller   = errors.New("the caller may not do that to this agent")
	ErrInstance = errors.New("no such agent runs here")
)

// Running is what an instance is that was admitted here.
type Running struct {
	Name   string
	Bundle bundle.Digest
}

// Remove checks a removal and takes its serial. find says what runs under an instance's name. What it
// returns may be stopped; the error is a *Refusal.
func (l *Loader) Remove(raw []byte, find func(instance string) (Running, bool)) (*bundle.Removal, error) {
	r := &Refusal{}
	if claim, err := bundle.ParseRemoval(raw); err == nil {
		r.Instance, r.Bundle = claim.Instance, claim.Bundle
	}
	out, err := l.remove(raw, find, r)
	if err != nil {
		r.Reason = err
		return nil, r
	}
	return out, nil
}

func (l *Loader) remove(raw []byte, find func(string) (Running, bool), refusal *Refusal) (*bundle.Removal, error) {
	r, ids, err := bundle.VerifyRemoval(raw, l.checker.Deployers())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRemoval, err)
	}
	if err := l.current(r.Audience, r.Expires); err != nil {
		return nil, err
	}
	now, ok := find(r.Instance)
	if !ok {
		return nil, fmt.Errorf("%w: %q", ErrInstance, r.Instance)
	}
	refusal.Name = now.Name
	if now.Bundle != r.Bundle {
		return nil, fmt.Errorf("%w: %q runs bundle %s, not %s", ErrRemoval, r.Instance, now.Bundle, r.Bundle)
	}
	if err := l.checker.MayDeploy(ids, now.Name); err != nil {
		return nil, err
	}
	return r, l.claim(ids, r.Serial)
}

// current checks whom a statement is for and until when.
func (l *Loader) current(audience string, expires time.Time) error {
	if audience != l.cfg.Platform && (l.cfg.BootID == "" || audience != l.cfg.BootID) {
		return fmt.Errorf("%w: %q, this is %q", ErrAudience, audience, l.cfg.Platform)
	}
	if now := l.cfg.Now(); !now.Before(expires) {
		return fmt.Errorf("%w: at %s, it is %s", ErrExpired, expires.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}
