package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"omega/agentloader/sandbox"
	"omega/attest"
	"omega/internal/wire"
	"omega/policy/provenance"
)

// Folders of sandboxd in the guest.
const (
	sandboxDir    = "/run/sandboxd"
	sandboxCgroup = "/sys/fs/cgroup/agents"
)

// sandboxd runs admitted agents. It is the only child that starts foreign
// programs, and it parses nothing but messages of its siblings. What it tells
// the signer of its agents is what evidence says.
type sandboxd struct {
	c                    *child
	signer, log, gateway *wire.Client
	exited               chan agentExit
	roster               roster
	offers               offers
	disks                diskFiles
	leanings             leanings
	engineStart          sync.Mutex // one start of an engine at a time

	mu     sync.Mutex // guards what follows
	runner *sandbox.Runner
	pool   *sandbox.Pool[*spare]
	policy attest.Bytes32
}

// maxUnreadExits bounds the ends that PID 1 has not asked for yet.
const maxUnreadExits = 4096

func runSandboxd(ctx context.Context, c *child) error {
	s := &sandboxd{c: c, exited: make(chan agentExit, maxUnreadExits)}
	for peer, to := range map[string]**wire.Client{"signer": &s.signer, "log": &s.log, "gateway": &s.gateway} {
		cl, err := c.client(peer)
		if err != nil {
			return err
		}
		*to = cl
	}
	run := func(ctx2 context.Context, req runRequest, image *os.File) (nothing, error) {
		return s.run(ctx, ctx2, req, image)
	}
	start := func(ctx2 context.Context, req sandboxdStart) (nothing, error) { return s.start(ctx, ctx2, req) }
	return serveAll(ctx, c, map[string]map[string]wire.Handler{
		"pid1":    {opStart: handle(start), opExits: handle(s.exits)},
		"fetcher": {opRun: handleFile(run), opDisk: handle(s.disk), opStop: handle(s.stop)},
		"front":   {opAgents: handle(s.agents), opOutput: handle(s.output)},
	})
}

func (s *sandboxd) start(life, _ context.Context, req sandboxdStart) (nothing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runner != nil {
		return nothing{}, errors.New("start: already started")
	}
	r, err := sandbox.New(sandbox.Config{Runsc: runscFile, Dir: sandboxDir, Cgroup: req.Cgroup, Stage: []string{self, cellArgument}, Log: s.c.log})
	if err != nil {
		return nothing{}, err
	}
	if s.pool, err = newPool(); err != nil {
		return nothing{}, err
	}
	s.runner, s.policy = r, req.PolicyDigest
	go s.pool.Run(life)
	go s.follow(life)
	go s.watchDisks(life)
	return nothing{}, nil
}

// run starts one admitted agent: into the table, a link to the gateway, an
// entry in the log, then the sandbox. life is how long it may run.
func (s *sandboxd) run(life, ctx context.Context, req runRequest, image *os.File) (nothing, error) {
	if image == nil {
		return nothing{}, errors.New("run: no image")
	}
	if req.OnDemand {
		return nothing{}, s.offer(life, ctx, req, image)
	}
	agent, err := s.admit(ctx, req)
	if err != nil {
		return nothing{}, errors.Join(err, image.Close())
	}
	m := s.roster.add(agent)
	box, err := s.launch(ctx, req, agent, image)
	if err != nil {
		s.leaveDisks(ctx, req.Instance)
		return nothing{}, errors.Join(err, image.Close(), s.setState(ctx, agent.Index, s.roster.over(m, attest.AgentFailed)))
	}
	go s.supervise(life, req, agent, m, box, image)
	if err := s.setState(ctx, agent.Index, attest.AgentRunning); err != nil {
		return nothing{}, errors.Join(err, box.Stop(ctx, 0))
	}
	return nothing{}, nil
}

// admit puts the agent into the signer's table of agents.
func (s *sandboxd) admit(ctx context.Context, req runRequest) (attest.Agent, error) {
	s.mu.Lock()
	if s.runner == nil {
		s.mu.Unlock()
		return attest.Agent{}, errNotStarted
	}
	s.mu.Unlock()
	agent := attest.Agent{
		Instance:   req.Instance,
		State:      attest.AgentAdmitted,
		Name:       req.Name,
		Bundle:     req.Bundle,
		Identity:   attest.IdentityRoot(req.Components),
		Components: req.Components,
	}
	if _, err := rand.Read(agent.Salt[:]); err != nil {
		return attest.Agent{}, fmt.Errorf("salt: %w", err)
	}
	var reply admitReply
	_, err := s.signer.Call(ctx, opAdmit, admitRequest{Agent: agent}, &reply)
	agent.Index = reply.Index
	return agent, err
}

// supervise waits for the agent's end, starts it again as its manifest says, and
// makes the last end known in the table and to PID 1.
func (s *sandboxd) supervise(ctx context.Context, req runRequest, agent attest.Agent, m *member, box *sandbox.Sandbox, image *os.File) {
	var again restarts
	if req.Restart != nil {
		again.when, again.max = req.Restart.When, req.Restart.Max
	}
	state, code := attest.AgentExited, 0
	for begin := time.Now(); ; begin = time.Now() {
		if !s.roster.began(m, box, again.done > 0) {
			s.interrupt(ctx, agent, box)
		}
		var lines []string
		state, code, lines = s.collect(ctx, agent, box)
		s.roster.paused(m, code, lines)
		wait, ok := again.next(code, time.Since(begin))
		if !ok {
			break
		}
		next, err := s.relaunch(ctx, req, agent, m, wait, image)
		if errors.Is(err, errNotWanted) {
			break
		}
		if err != nil {
			s.c.log.Error("starting an agent again", "instance", agent.Instance, "error", err)
			state = attest.AgentFailed
			break
		}
		box = next
	}
	_ = image.Close()
	s.leaveDisks(ctx, req.Instance)
	if err := s.setState(ctx, agent.Index, s.roster.over(m, state)); err != nil {
		s.c.log.Error("recording an agent's end", "instance", agent.Instance, "error", err)
	}
	s.tellExit(agent.Instance, code)
}

// tellExit tells PID 1 of an agent's end for good. It prints it, and the fetcher
// then lets go of what the agent alone used.
func (s *sandboxd) tellExit(instance string, code int) {
	select {
	case s.exited <- agentExit{Instance: instance, Code: code}:
	default:
		s.c.log.Error("an agent's end is not told", "instance", instance)
	}
}

// collect waits for one end of the agent and enters it into the log.
func (s *sandboxd) collect(ctx context.Context, agent attest.Agent, box *sandbox.Sandbox) (state string, code int, lines []string) {
	exit, err := box.Wait(ctx)
	state, code = attest.AgentExited, exit.Code
	if err != nil {
		s.c.log.Error("waiting for an agent", "instance", agent.Instance, "error", err)
		state, code = attest.AgentFailed, -1
	}
	result, err := exitResult(code, exit.LastLines)
	if err == nil {
		err = s.record(ctx, provenance.Entry{Kind: provenance.KindExit, Agent: agent.Instance, Identity: agent.Identity, Result: result})
	}
	if err != nil {
		s.c.log.Error("recording an agent's end", "instance", agent.Instance, "error", err)
	}
	return state, code, exit.LastLines
}

// filePath names an open file for a child process that opens files by path. The
// image has no name of its own: nobody can replace it between the check and the use.
func filePath(f *os.File) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()) }

// setState changes one agent's state in what is signed. An agent that has ended
// stays ended: it can have done so before it is called running.
func (s *sandboxd) setState(ctx context.Context, index uint32, state string) error {
	_, err := s.signer.Call(ctx, opState, stateRequest{Index: index, State: state}, nil)
	return err
}

func (s *sandboxd) record(ctx context.Context, e provenance.Entry) error {
	e.PolicyDigest = s.policy
	return appendEntry(ctx, s.log, e)
}

// exits answers with the agents that ended since the last call, and waits for one.
func (s *sandboxd) exits(ctx context.Context, _ nothing) (exitsReply, error) {
	var out exitsReply
	select {
	case e := <-s.exited:
		out.Exits = append(out.Exits, e)
	case <-ctx.Done():
		return out, ctx.Err()
	}
	for len(out.Exits) < 64 {
		select {
		case e := <-s.exited:
			out.Exits = append(out.Exits, e)
		default:
			return out, nil
		}
	}
	return out, nil
}
