package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"omega/agentloader/sandbox"
	"omega/attest"
	"omega/policy/provenance"
)

// What the warm pool may take. A quarter of the memory stays free for agents
// that run, and spares are only started when nobody else starts anything.
const (
	poolReserve = 4 // of all memory, one part in
	poolCost    = 48 * mib
	poolMost    = 32
	poolQuiet   = 3 * time.Second
)

// spare is a sandbox whose agent has not started, or not been given an instance.
// It reaches nobody: the far ends of its links lie here.
type spare struct {
	box   *sandbox.Sandbox
	pairs *sandboxLinks
}

// Alive reports whether the sandbox still stands.
func (s *spare) Alive() bool {
	select {
	case <-s.box.Done():
		return false
	default:
		return true
	}
}

// Drop ends the sandbox.
func (s *spare) Drop() {
	_ = s.box.Kill() // what cannot be killed is in the log of its end
	s.pairs.close()
}

// newPool is the warm pool of this machine.
func newPool() (*sandbox.Pool[*spare], error) {
	total, err := memory("MemTotal:")
	if err != nil {
		return nil, err
	}
	bounds := sandbox.Bounds{Reserve: total / poolReserve, Cost: poolCost, Most: poolMost, Quiet: poolQuiet}
	return sandbox.NewPool[*spare](bounds, func() (int64, error) { return memory("MemAvailable:") }), nil
}

// memory reads one line of /proc/meminfo (proc_meminfo(5)), in bytes.
func memory(name string) (int64, error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		if f := strings.Fields(s.Text()); len(f) == 3 && f[0] == name {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("meminfo: no " + name)
}

// keepWarm has spares kept for what is started on demand.
func (s *sandboxd) keepWarm(req runRequest, image *os.File) {
	want, ahead := 1, false
	if req.Warm != nil {
		want, ahead = req.Warm.Spares, req.Warm.Ahead
	}
	s.pool.Keep(req.Instance, want, func(ctx context.Context) (*spare, error) {
		sp, err := s.prepare(ctx, req, image)
		if err != nil {
			return nil, err
		}
		<-sp.box.Booted()
		if ahead {
			err = sp.box.Ahead()
		}
		if err != nil || !sp.Alive() {
			sp.Drop()
			return nil, errors.Join(errors.New("a spare sandbox does not stand"), err)
		}
		return sp, nil
	})
}

// prepare boots a sandbox for an agent; its gate stays closed.
func (s *sandboxd) prepare(ctx context.Context, req runRequest, image *os.File) (*spare, error) {
	files, err := s.files(req)
	if err != nil {
		return nil, err
	}
	servers := make([]string, len(req.Tools))
	for i, t := range req.Tools {
		servers[i] = t.Server
	}
	variables, err := sandbox.WithPeers(req.Env, req.A2A.names())
	if err != nil {
		return nil, err
	}
	env, err := sandbox.Env(variables, servers)
	if err != nil {
		return nil, err
	}
	// A descriptor of its own: nobody closes it, and takes its number, before the sandbox has opened it.
	fd, err := unix.FcntlInt(image.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	own := os.NewFile(uintptr(fd), "image")
	pairs, err := newLinks(req.Serve, req.Stdio)
	if err != nil {
		return nil, errors.Join(err, own.Close())
	}
	native, err := s.native(req)
	if err != nil {
		pairs.close()
		return nil, errors.Join(err, own.Close())
	}
	box, err := s.runner.Prepare(ctx, sandbox.Spec{
		Hostname: req.Instance,
		Image:    filePath(own),
		Command:  req.Command,
		Env:      env,
		Dir:      req.Dir,
		Limits:   sandbox.Limits(req.Limits),
		Link:     pairs.theirs[0],
		Inbound:  pairs.inbound(),
		Port:     pairs.port,
		Files:    files,
		Stdio:    req.Stdio,
		Native:   native,
	})
	if err != nil {
		pairs.close()
		return nil, errors.Join(err, own.Close())
	}
	go func() {
		<-box.Booted()
		_ = own.Close()
	}()
	pairs.closeTheirs()
	return &spare{box, pairs}, nil
}

// launch makes an instance of a sandbox: one of the pool, or a new one. The
// gateway learns whose link it is, and the log of the start, before anything of
// the agent runs.
func (s *sandboxd) launch(ctx context.Context, req runRequest, agent attest.Agent, image *os.File) (*sandbox.Sandbox, error) {
	if err := s.still(ctx, req, agent); err != nil {
		return nil, err
	}
	if sp, ok := s.pool.Take(req.Instance); ok {
		return s.release(ctx, req, agent, sp, json.RawMessage(`{"from":"pool"}`))
	}
	sp, err := s.prepare(ctx, req, image)
	if err != nil {
		return nil, err
	}
	return s.release(ctx, req, agent, sp, nil)
}

// release is the second half of launch. how stands in the start's entry.
func (s *sandboxd) release(ctx context.Context, req runRequest, agent attest.Agent, sp *spare, how json.RawMessage) (*sandbox.Sandbox, error) {
	defer sp.pairs.close()
	link := linkRequest{Instance: agent.Instance, Name: agent.Name, Bundle: agent.Bundle,
		Identity: agent.Identity, Tools: req.Tools, Models: req.Models, A2A: req.A2A, Engine: enginePartOf(req)}
	s.leanings.note(agent.Instance, req)
	_, err := s.gateway.Call(ctx, opLink, link, nil, sp.pairs.ours...)
	if err == nil {
		err = s.record(ctx, provenance.Entry{Kind: provenance.KindStart, Agent: agent.Instance, Identity: agent.Identity, Result: how})
	}
	if err == nil {
		err = sp.box.Release(agent.Instance)
	}
	if err != nil {
		return nil, errors.Join(err, sp.box.Kill())
	}
	if req.Serve != nil && req.Serve.Health != "" {
		go s.watchHealth(context.WithoutCancel(ctx), agent.Instance, req.Serve.Health, sp.box)
	}
	return sp.box, nil
}

// errNotWanted ends an agent's restarts: it was told to stop meanwhile.
var errNotWanted = errors.New("it was told to stop")

// relaunch starts an agent that ended once more. Its sandbox boots while it waits,
// so that the wait is all that a restart costs.
func (s *sandboxd) relaunch(ctx context.Context, req runRequest, agent attest.Agent, m *member, wait time.Duration, image *os.File) (*sandbox.Sandbox, error) {
	sp, err := s.prepare(ctx, req, image)
	if err != nil {
		return nil, err
	}
	if !m.waits(ctx, wait) {
		sp.Drop()
		return nil, errNotWanted
	}
	if err := s.still(ctx, req, agent); err != nil {
		sp.Drop()
		return nil, err
	}
	return s.release(ctx, req, agent, sp, nil)
}

// errOutdated refuses a start after the revocation list that admitted the agent
// has expired.
var errOutdated = errors.New("the revocation list that it was held against has expired")

// still reports why an admitted agent may not be started any more. The refusal is
// in the log.
func (s *sandboxd) still(ctx context.Context, req runRequest, agent attest.Agent) error {
	if req.Until.IsZero() || time.Now().Before(req.Until) {
		return nil
	}
	e := provenance.Entry{Kind: provenance.KindRefusal, Agent: agent.Instance, Identity: agent.Identity, Action: "start",
		Decision: provenance.Deny, Reasons: []string{errOutdated.Error()}}
	return errors.Join(errOutdated, s.record(ctx, e))
}
