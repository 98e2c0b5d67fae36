package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"omega/attest"
	"omega/policy/gateway"
)

// maxInput bounds what a caller sends to an agent (gateway.MaxInvocation).
const maxInput = gateway.MaxInvocation

// get is the gateway, once it has started.
func (g *gatewayChild) get() (*gateway.Gateway, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gw == nil {
		return nil, errNotStarted
	}
	return g.gw, nil
}

// invoke hands a caller's request to an agent and has the signer state what
// came of it.
func (g *gatewayChild) invoke(ctx context.Context, req invokeRequest, files []*os.File) (invokeReply, []*os.File, error) {
	defer closeAll(files)
	gw, err := g.get()
	if err != nil {
		return invokeReply{}, nil, err
	}
	if len(files) != 1 {
		return invokeReply{}, nil, errors.New("invoke: no input")
	}
	input, err := readMemory(files[0], maxInput)
	if err != nil {
		return invokeReply{}, nil, err
	}
	a, err := gw.Ask(ctx, gateway.Invocation{Agent: req.Agent, Session: req.Session, Callers: req.Callers, Subject: req.Subject, Peer: req.Peer,
		ContentType: req.ContentType, Input: input})
	if why := refusedBy(err); why != nil {
		return invokeReply{Refused: why}, nil, nil
	}
	if err != nil {
		return invokeReply{}, nil, err
	}
	reply := invokeReply{Instance: a.Agent.Instance, Labels: a.Labels, ContentType: a.ContentType}
	if reply.Statement, err = g.statement(ctx, a, input); err != nil {
		// What was done is done and in the log. Who wants the statement sees that it lacks.
		g.c.log.Error("invocation statement", "instance", a.Agent.Instance, "entry", a.Entry, "error", err)
	}
	out, err := memoryFile("output", a.Output)
	if err != nil {
		return invokeReply{}, nil, err
	}
	return reply, []*os.File{out}, nil
}

// refusedBy is what of an error is for the caller; nil where it is an inner one.
func refusedBy(err error) *refusal {
	var r *gateway.Refusal
	if !errors.As(err, &r) {
		return nil
	}
	return &refusal{Code: r.Code, Message: r.Message}
}

// statement has the signer say that this agent gave this output for this input,
// by salted commitments and the entry of the log that speaks of it.
func (g *gatewayChild) statement(ctx context.Context, a *gateway.Answer, input []byte) (json.RawMessage, error) {
	var proof proveReply
	if _, err := g.log.Call(ctx, opProve, proveRequest{Index: a.Entry}, &proof); err != nil {
		return nil, err
	}
	var in, out attest.Bytes16
	_, _ = rand.Read(in[:]) // never fails (crypto/rand)
	_, _ = rand.Read(out[:])
	labels := slices.Clone(a.Labels)
	slices.Sort(labels)
	req := invocationRequest{
		Statement: attest.Invocation{
			Instance: a.Agent.Instance, Identity: a.Agent.Identity, Input: attest.CommitInput(in, input), Output: attest.CommitOutput(out, a.Output),
			LogIndex: a.Entry, LogLeaf: proof.Leaf, Labels: slices.Compact(labels),
		},
		Size: proof.Size, Proof: proof.Path,
	}
	signer, err := g.c.client("signer")
	if err != nil {
		return nil, err
	}
	var signed attest.SignedInvocation
	if _, err := signer.Call(ctx, opInvocation, req, &signed); err != nil {
		return nil, err
	}
	signed.InputSalt, signed.OutputSalt = in, out
	return json.Marshal(signed)
}

// pending answers with the questions that these callers may answer.
func (g *gatewayChild) pending(_ context.Context, req pendingRequest, files []*os.File) (nothing, []*os.File, error) {
	closeAll(files)
	gw, err := g.get()
	if err != nil {
		return nothing{}, nil, err
	}
	b, err := json.Marshal(map[string]any{"approvals": gw.Pending(req.Callers)})
	if err != nil {
		return nothing{}, nil, err
	}
	f, err := memoryFile("approvals", b)
	if err != nil {
		return nothing{}, nil, err
	}
	return nothing{}, []*os.File{f}, nil
}

// approve takes a person's answer.
func (g *gatewayChild) approve(ctx context.Context, req approveRequest) (approveReply, error) {
	gw, err := g.get()
	if err != nil {
		return approveReply{}, err
	}
	entry, err := gw.Approve(ctx, req.Callers, req.Statement)
	if why := refusedBy(err); why != nil {
		return approveReply{Refused: why}, nil
	}
	return approveReply{Entry: entry}, err
}

// readMemory reads a sealed memory file that a sibling sent.
func readMemory(f *os.File, most int64) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("memory file: %w", err)
	}
	if info.Size() > most {
		return nil, fmt.Errorf("memory file of %d bytes is over %d", info.Size(), most)
	}
	b := make([]byte, info.Size())
	if len(b) == 0 {
		return b, nil
	}
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("memory file: %w", err)
	}
	return b, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
