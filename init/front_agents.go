package main

import (
	"context"

	"omega/agentloader/bundle"
	"omega/init/internal/front"
)

// agents asks sandboxd for the agents of these names.
func (f *frontChild) agents(ctx context.Context, names []string) ([]front.Agent, error) {
	var reply agentsReply
	if _, err := f.sandboxd.Call(ctx, opAgents, agentsRequest{Names: names}, &reply); err != nil {
		return nil, err
	}
	out := make([]front.Agent, len(reply.Agents))
	for i, a := range reply.Agents {
		out[i] = front.Agent{Instance: a.Instance, Name: a.Name, Bundle: bundle.Digest(a.Bundle).String(), State: a.State,
			Restarts: a.Restarts, Health: a.Health, ExitCode: a.ExitCode, Since: a.Since}
	}
	return out, nil
}

// output asks sandboxd for what an agent wrote last.
func (f *frontChild) output(ctx context.Context, instance, caller string, names []string) ([]string, error) {
	var reply outputReply
	if _, err := f.sandboxd.Call(ctx, opOutput, outputRequest{Instance: instance, Caller: caller, Names: names}, &reply); err != nil {
		return nil, err
	}
	if !reply.Found {
		return nil, front.Refuse(front.CodeNoSuchAgent, "no such agent, or none whose output you may read")
	}
	return reply.Lines, nil
}

// order has the fetcher check and carry out a deployment or removal.
func (f *frontChild) order(ctx context.Context, o front.Order) (*front.Done, error) {
	var reply orderReply
	req := orderRequest{Statement: o.Statement, Caller: o.Caller, Names: o.Names, Removes: o.Removes}
	if _, err := f.fetcher.Call(ctx, opOrder, req, &reply); err != nil {
		return nil, err
	}
	if !reply.Done {
		return nil, front.Refuse(reply.Code, reply.Reason)
	}
	return &front.Done{Instance: reply.Instance, Name: reply.Name, Bundle: reply.Bundle, State: reply.State, ExitCode: reply.ExitCode}, nil
}
