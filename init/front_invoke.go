package main

import (
	"context"

	"omega/init/internal/front"
)

// invoke has the gateway hand a request to an agent.
func (f *frontChild) invoke(ctx context.Context, inv front.Invocation) (*front.Answer, error) {
	input, err := memoryFile("input", inv.Input)
	if err != nil {
		return nil, err
	}
	defer input.Close()
	req := invokeRequest{Agent: inv.Agent, Session: inv.Session, Callers: inv.Callers, Subject: inv.Subject, Peer: inv.Peer, ContentType: inv.ContentType}
	var reply invokeReply
	files, err := f.gateway.Call(ctx, opInvoke, req, &reply, input)
	if err != nil {
		return nil, err
	}
	if reply.Refused != nil {
		closeAll(files)
		return nil, front.RefuseAsked(reply.Refused.Code, reply.Refused.Message)
	}
	out, err := oneFile(files, true, nil)
	if err != nil {
		return nil, err
	}
	return &front.Answer{Instance: reply.Instance, Labels: reply.Labels, ContentType: reply.ContentType, Statement: reply.Statement, Output: out}, nil
}

// pending asks the gateway for the questions that these callers may answer.
func (f *frontChild) pending(ctx context.Context, callers []string) ([]byte, error) {
	files, err := f.gateway.Call(ctx, opPending, pendingRequest{Callers: callers}, nil)
	return oneFile(files, true, err)
}

// approve hands a person's answer to the gateway.
func (f *frontChild) approve(ctx context.Context, callers []string, statement []byte) (uint64, error) {
	var reply approveReply
	if _, err := f.gateway.Call(ctx, opApprove, approveRequest{Callers: callers, Statement: statement}, &reply); err != nil {
		return 0, err
	}
	if reply.Refused != nil {
		return 0, front.RefuseAsked(reply.Refused.Code, reply.Refused.Message)
	}
	return reply.Entry, nil
}
