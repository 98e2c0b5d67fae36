package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"omega/agentloader"
	"omega/agentloader/bundle"
	"omega/agentloader/registry"
	"omega/attest"
	"omega/init/internal/front"
	"omega/policy/provenance"
)

// asker is who hands in a deployment or a removal. The zero asker is the launch
// config, which speaks through signatures alone.
type asker struct {
	caller string
	names  []string // of the agents that it may have deployed and removed
}

// may reports whether the asker may have agents of that name deployed.
func (a asker) may(name string) bool {
	return a.caller == "" || slices.Contains(a.names, name)
}

// account is whose share of the log the asker's refusals take. No instance is
// called so (bundle.ValidInstance).
func (a asker) account() string { return "caller/" + a.caller }

// errTaken refuses an instance name that evidence has already: what it says of
// an agent must stay true of that name for the whole boot.
var errTaken = errors.New("an instance of that name was admitted in this boot already; choose another name")

// take keeps the instance's name for the agent that was admitted.
func (f *fetcher) take(a *agentloader.Admitted) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.deployed[a.Instance]; ok {
		return errTaken
	}
	f.deployed[a.Instance] = agentloader.Running{Name: a.Name, Bundle: a.Bundle}
	return nil
}

// giveBack frees the name of an instance that was not started after all.
func (f *fetcher) giveBack(instance string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.deployed, instance)
}

// order carries out what a caller of the platform hands in: a deployment or a
// removal. Both need a deployer's signature beside the caller's right.
func (f *fetcher) order(ctx context.Context, req orderRequest) (orderReply, error) {
	if req.Caller == "" {
		return orderReply{}, errors.New("order: nobody hands it in")
	}
	by := asker{caller: req.Caller, names: req.Names}
	claim, err := bundle.ParseRemoval(req.Statement)
	switch {
	case req.Removes != "" && err == nil && claim.Instance != req.Removes:
		return orderReply{Code: front.CodeMalformed, Reason: "the removal is of another instance than the one that was asked for"}, nil
	case req.Removes != "" || err == nil:
		return f.remove(ctx, req.Statement, by)
	}
	a, refusal, err := f.admit(ctx, req.Statement, by)
	if err != nil {
		return orderReply{}, err
	}
	if refusal != nil {
		return refused(refusal), nil
	}
	return orderReply{Done: true, Instance: a.Instance, Name: a.Name, Bundle: a.Bundle.String(), State: attest.AgentRunning}, nil
}

// remove stops an agent as a signed removal says. The log has it before.
func (f *fetcher) remove(ctx context.Context, removal []byte, by asker) (orderReply, error) {
	loader, err := f.started()
	if err != nil {
		return orderReply{}, err
	}
	r, err := loader.Remove(removal, func(instance string) (agentloader.Running, bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		now, ok := f.deployed[instance]
		return now, ok && by.may(now.Name)
	})
	var refusal *agentloader.Refusal
	switch {
	case errors.As(err, &refusal):
		f.refuse(ctx, refusal, "remove", by)
		return refused(refusal), nil
	case err != nil:
		return orderReply{}, err
	}
	e := provenance.Entry{Kind: provenance.KindRemoval, Agent: r.Instance, Action: "remove", Decision: provenance.Permit}
	if err := f.record(ctx, e, decision{Bundle: r.Bundle.String(), Caller: by.caller}); err != nil {
		return orderReply{}, err
	}
	var stopped stopReply
	req := stopRequest{Instance: r.Instance, Grace: time.Duration(r.GraceSeconds) * time.Second}
	if _, err := f.sandboxd.Call(ctx, opStop, req, &stopped); err != nil {
		return orderReply{}, err
	}
	if !stopped.Found {
		return orderReply{Instance: r.Instance, Code: front.CodeEnded, Reason: "the agent has ended already"}, nil
	}
	return orderReply{Done: true, Instance: r.Instance, Bundle: r.Bundle.String(), State: stopped.State, ExitCode: &stopped.Code}, nil
}

// refused is a refusal as the front words it to the caller.
func refused(r *agentloader.Refusal) orderReply {
	out := orderReply{Instance: r.Instance, Code: front.CodeRefused, Reason: inWords(r.Reason)}
	for _, c := range []struct {
		err  error
		code string
	}{
		// The first that fits: a deployment with a bad signature is not valid, too.
		{bundle.ErrSignature, front.CodeSignature}, {bundle.ErrUnsigned, front.CodeSignature},
		{agentloader.ErrExpired, front.CodeExpired},
		{agentloader.ErrAudience, front.CodeAudience},
		{agentloader.ErrReplayed, front.CodeReplayed},
		{agentloader.ErrCaller, front.CodeNoRight},
		{agentloader.ErrInstance, front.CodeNoSuchAgent},
		{errTaken, front.CodeTaken},
		{agentloader.ErrDeployment, front.CodeMalformed},
		{agentloader.ErrRemoval, front.CodeMalformed},
		{registry.ErrNotFound, front.CodeRegistry}, {registry.ErrSlow, front.CodeRegistry}, {registry.ErrUnavailable, front.CodeRegistry},
	} {
		if errors.Is(r.Reason, c.err) {
			out.Code = c.code
			break
		}
	}
	return out
}
