package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"omega/agentloader/bundle"
	"omega/agentloader/sandbox"
	"omega/attest"
	"omega/internal/labelhash"
	"omega/policy/gateway"
)

// cellArgument makes the binary the stage of a native sandbox (init/internal/cell).
const cellArgument = "cell"

// firstNativeUID is the user of the first native sandbox of a boot; each has one of
// its own.
const firstNativeUID = 100_000

// engineRoom is how long a start waits for another process of the engine to end,
// which the gateway has ordered before.
const engineRoom = 30 * time.Second

// leaning is what an agent's bundle says of the engine that it uses.
type leaning struct {
	bundle   attest.Bytes32 // of the engine
	model    attest.Bytes32 // verity root
	adapters []runFile
	signed   []attest.Component // the adapters, as their principals signed them
}

// leanings are those of the agents that were started in this boot.
type leanings struct {
	mu   sync.Mutex // guards what follows
	of   map[string]leaning
	uids int
}

// leaningOf takes it out of what was admitted; ok is false for an agent that uses
// no engine.
func leaningOf(req runRequest) (l leaning, ok bool) {
	if req.Inference == nil {
		return l, false
	}
	l.bundle = attest.Bytes32(req.Inference.Bundle)
	for _, f := range req.Files {
		switch f.Kind {
		case bundle.KindModel:
			l.model = f.Root
		case bundle.KindAdapter:
			l.adapters = append(l.adapters, f)
		}
	}
	for _, c := range req.Components {
		if c.Kind == bundle.KindAdapter {
			l.signed = append(l.signed, c)
		}
	}
	return l, true
}

// set stands for the adapters, in their order, and for who signed them: agents with
// the same set may share a process. Zero: none.
func (l leaning) set() (out attest.Bytes32) {
	if len(l.adapters) == 0 {
		return out
	}
	var parts [][]byte
	for _, f := range l.adapters {
		parts = append(parts, []byte(f.Name), f.Root[:], fmt.Append(nil, f.Size))
	}
	for i := range l.signed {
		id := l.signed[i].ID()
		parts = append(parts, id[:])
	}
	return labelhash.Sum256("omega/adapters/v1", parts...)
}

// note keeps what an instance leans on, before it can ask.
func (l *leanings) note(instance string, req runRequest) {
	own, ok := leaningOf(req)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = map[string]leaning{}
	}
	l.of[instance] = own
}

func (l *leanings) find(instance string) (leaning, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	out, ok := l.of[instance]
	return out, ok
}

// nextUID is a user that no other process has had in this boot.
func (l *leanings) nextUID() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.uids++
	return firstNativeUID + l.uids
}

// enginePart is what the gateway learns of it with the agent's link.
type enginePart struct {
	Name     string           `json:"name"`
	Bundle   attest.Bytes32   `json:"bundle"`
	Model    attest.Bytes32   `json:"model"`
	Adapters []attest.Bytes32 `json:"adapters"`
	Set      attest.Bytes32   `json:"set"`
}

func enginePartOf(req runRequest) *enginePart {
	l, ok := leaningOf(req)
	if !ok {
		return nil
	}
	out := &enginePart{Name: req.Inference.Engine, Bundle: l.bundle, Model: l.model, Set: l.set()}
	for _, f := range l.adapters {
		out.Adapters = append(out.Adapters, f.Root)
	}
	return out
}

// pin is the part as the gateway takes it.
func (p *enginePart) pin() *gateway.EnginePin {
	if p == nil {
		return nil
	}
	out := &gateway.EnginePin{Name: p.Name, Bundle: p.Bundle, Model: p.Model, Set: p.Set}
	for _, a := range p.Adapters {
		out.Adapters = append(out.Adapters, a)
	}
	return out
}

var (
	errNoLeaning  = errors.New("the agent uses no engine")
	errOtherModel = errors.New("the agent's bundle names another engine or another model")
	errNoEngine   = errors.New("the engine's processes did not end in time")
	errNoGPU      = errors.New("the engine needs a GPU, and none is ready on this platform")
)

// engineRequest is what runs of an engine for an agent: the engine's bundle with
// the agent's adapters. They are part of what runs, so they stand in its identity.
func engineRequest(from runRequest, l leaning) (runRequest, error) {
	req := from
	if l.bundle != from.Bundle || !slices.ContainsFunc(from.Files, func(f runFile) bool { return f.Kind == bundle.KindModel && f.Root == l.model }) {
		return req, errOtherModel
	}
	var names, paths []string
	for _, f := range l.adapters {
		names, paths = append(names, f.Name), append(paths, fileDirs[f.Kind]+"/"+f.Name)
	}
	var err error
	if req.Command, err = from.Engine.Words(from.Command, names, paths); err != nil {
		return req, err
	}
	req.Files = append(slices.Clone(from.Files), l.adapters...)
	req.Components = append(slices.Clone(from.Components), l.signed...)
	for i := range req.Components {
		if _, err := rand.Read(req.Components[i].Salt[:]); err != nil {
			return req, fmt.Errorf("salt: %w", err)
		}
	}
	return req, nil
}

// startEngine starts the process of an engine for an agent's adapters.
func (s *sandboxd) startEngine(life context.Context, from *offer, instance, agent string) error {
	if from == nil || from.req.Engine == nil {
		return errors.New("no such engine is deployed")
	}
	l, ok := s.leanings.find(agent)
	if !ok {
		return errNoLeaning
	}
	req, err := engineRequest(from.req, l)
	if err != nil {
		return err
	}
	// The one lock is what keeps two starts from both finding the last place.
	s.engineStart.Lock()
	defer s.engineStart.Unlock()
	if err := s.engineRoom(life, from, instance); err != nil {
		return err
	}
	return s.startRow(life, from, instance, req, l.set())
}

// engineRoom waits until one more process may run of an engine, or on the GPU.
func (s *sandboxd) engineRoom(life context.Context, from *offer, instance string) error {
	deadline := time.Now().Add(engineRoom)
	for {
		if from.runningBeside(instance) < from.req.Engine.Most() && (!from.req.Engine.GPU || s.onGPU(instance) == 0) {
			return nil
		}
		if time.Now().After(deadline) {
			return errNoEngine
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-life.Done():
			return life.Err()
		}
	}
}

// runningBeside counts the sandboxes of an offer but for that of one instance.
func (o *offer) runningBeside(instance string) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for name, row := range o.rows {
		if row.box != nil && name != instance {
			n++
		}
	}
	return n
}

// onGPU counts the processes that have the GPU.
func (s *sandboxd) onGPU(instance string) (n int) {
	s.offers.mu.Lock()
	defer s.offers.mu.Unlock()
	for _, o := range s.offers.kept {
		if o.req.Engine != nil && o.req.Engine.GPU {
			n += o.runningBeside(instance)
		}
	}
	return n
}

// gpuNodes are the device nodes of a GPU that is ready (NVIDIA's open modules).
var gpuNodes = []string{"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia[0-9]"}

// native says how an engine is confined; nil for everybody else.
func (s *sandboxd) native(req runRequest) (*sandbox.Native, error) {
	if req.Engine == nil {
		return nil, nil
	}
	out := &sandbox.Native{UID: s.leanings.nextUID()}
	if !req.Engine.GPU {
		return out, nil
	}
	for _, pattern := range gpuNodes {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			return nil, errNoGPU
		}
		out.Devices = append(out.Devices, found...)
	}
	return out, nil
}

// runCell is the life of a native sandbox's first process until it is the shim.
func runCell(enter func() error) int {
	err := enter()
	fmt.Fprintln(os.Stderr, "cell:", err)
	return 1
}
