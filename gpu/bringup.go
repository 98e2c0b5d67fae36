package gpu

import (
	"context"
	"errors"
	"fmt"

	"omega/gpu/evidence"
	"omega/gpu/probe"
)

// State is how bringing up ended. The zero value is none of them.
type State string

// The states, as the boot claims name them.
const (
	Absent  State = "absent"  // there is no GPU
	Refused State = "refused" // there is one, and it may not be used
	Ready   State = "ready"   // appraised, and it takes work
)

// ErrRefused is every reason for which a GPU is not used.
var ErrRefused = errors.New("GPU refused")

// An Asker answers questions about the GPUs; Probe is one.
type Asker interface {
	Ask(ctx context.Context, q probe.Request) (probe.Answer, error)
	Close() error
}

// Machine is what the kernel and the payload do for bringing up. Each function
// is called once and in the order of the fields: the modules before the device
// nodes, and the persistence daemon before any other client, because in CC mode
// the adapter is initialised once and is gone when its last client leaves.
type Machine struct {
	// Devices is the number of NVIDIA controllers on the PCI bus.
	Devices int
	// Load inserts a kernel module of the measured payload by name.
	Load func(ctx context.Context, module string) error
	// Nodes makes the device nodes of so many GPUs.
	Nodes func(ctx context.Context, gpus int) error
	// Persist starts nvidia-persistenced with UVM persistence and waits for it.
	Persist func(ctx context.Context) error
	// Open starts the program that speaks NVML.
	Open func(ctx context.Context) (Asker, error)
}

// Want is what a GPU must be.
type Want struct {
	// GPUs is how many there must be; zero takes what is there.
	GPUs int
	// MultiGPU is the mode of several GPUs together: probe.MultiGPUNone or
	// probe.MultiGPUProtectedPCIe.
	MultiGPU uint32
	// Appraisal is what the evidence is held against; its nonce is what the GPUs
	// are asked with.
	Appraisal evidence.Params
}

// Outcome is how bringing up ended, and with what evidence. Of a refused GPU the
// evidence is there as far as it came: others may look at it.
type Outcome struct {
	State    State
	Evidence []evidence.Evidence
	Results  []*evidence.Result
	// Asker keeps the GPUs ready: its end is theirs. Nil unless State is Ready.
	Asker Asker
	// Reason is why the GPUs were refused.
	Reason error
}

// modules are the open kernel modules of NVIDIA's that computing needs, in order.
var modules = []string{"nvidia", "nvidia-uvm"}

// BringUp takes the machine's GPUs from the bus to the ready state. It never
// leaves one ready that it did not appraise: the bytes that are appraised are
// those that the outcome has.
func BringUp(ctx context.Context, m Machine, w Want) Outcome {
	if m.Devices == 0 && w.GPUs == 0 {
		return Outcome{State: Absent}
	}
	b := bringUp{m: m, w: w}
	err := b.run(ctx)
	if err == nil {
		return Outcome{State: Ready, Evidence: b.evidence, Results: b.results, Asker: b.asker}
	}
	if b.asker != nil {
		// Back to not ready is for good until the GPU is reset, which is what a GPU
		// that was refused is for. Its driver may be gone already.
		_, _ = b.asker.Ask(ctx, probe.Request{Op: probe.OpReady})
		_ = b.asker.Close()
	}
	return Outcome{State: Refused, Evidence: b.evidence, Results: b.results, Reason: fmt.Errorf("%w: %w", ErrRefused, err)}
}

// bringUp is one run.
type bringUp struct {
	m Machine
	w Want

	asker    Asker
	evidence []evidence.Evidence
	results  []*evidence.Result
}

func (b *bringUp) run(ctx context.Context) error {
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"inventory", b.inventory},
		{"modules", b.load},
		{"device nodes", func(ctx context.Context) error { return b.m.Nodes(ctx, b.m.Devices) }},
		{"persistence", b.m.Persist},
		{"management library", b.open},
		{"settings", b.settings},
		{"evidence", b.collect},
		{"appraisal", b.appraise},
		{"ready", b.ready},
	} {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

func (b *bringUp) inventory(context.Context) error {
	if b.w.GPUs != 0 && b.m.Devices != b.w.GPUs {
		return fmt.Errorf("%d GPUs on the bus, want %d", b.m.Devices, b.w.GPUs)
	}
	return nil
}

func (b *bringUp) load(ctx context.Context) error {
	for _, name := range modules {
		if err := b.m.Load(ctx, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (b *bringUp) open(ctx context.Context) (err error) {
	b.asker, err = b.m.Open(ctx)
	return err
}

// settings holds what the driver says against what confidential computing needs.
// All of it is the driver's word; the evidence says part of it again, signed.
func (b *bringUp) settings(ctx context.Context) error {
	s, err := b.system(ctx)
	if err != nil {
		return err
	}
	switch {
	case s.GPUs != b.m.Devices:
		return fmt.Errorf("the driver sees %d GPUs, the bus has %d", s.GPUs, b.m.Devices)
	case s.CPU != probe.CPUSNP && s.CPU != probe.CPUVTOM:
		return fmt.Errorf("the driver does not find SEV-SNP (CPU capability %d)", s.CPU)
	case !s.GPUCapable || !s.Feature:
		return errors.New("confidential computing is off; the host turns it on")
	case s.DevTools:
		return errors.New("developer tools are on: nothing on this GPU is confidential")
	case s.Environment != probe.EnvironmentProduction:
		return fmt.Errorf("environment %d is not production", s.Environment)
	case s.MultiGPU != b.w.MultiGPU:
		return fmt.Errorf("multi-GPU mode %d, want %d", s.MultiGPU, b.w.MultiGPU)
	case s.Ready:
		return errors.New("the GPU takes work before anybody appraised it")
	}
	return nil
}

func (b *bringUp) system(ctx context.Context) (*probe.System, error) {
	a, err := b.asker.Ask(ctx, probe.Request{Op: probe.OpSystem})
	return a.System, err
}

// collect asks each GPU once: a request that fails ends the GPU's session.
func (b *bringUp) collect(ctx context.Context) error {
	for i := range b.m.Devices {
		a, err := b.asker.Ask(ctx, probe.Request{Op: probe.OpEvidence, GPU: i, Nonce: b.w.Appraisal.Nonce})
		if err != nil {
			return fmt.Errorf("GPU %d: %w", i, err)
		}
		b.evidence = append(b.evidence, evidence.Evidence{Report: a.Report, Chain: a.Chain})
	}
	return nil
}

func (b *bringUp) appraise(context.Context) (err error) {
	p := b.w.Appraisal
	p.Policy.GPUs = b.m.Devices
	b.results, err = evidence.AppraiseAll(b.evidence, p)
	return err
}

// ready opens the GPUs for work and reads back that it is so, and that nothing
// else has changed since the settings were looked at.
func (b *bringUp) ready(ctx context.Context) error {
	a, err := b.asker.Ask(ctx, probe.Request{Op: probe.OpReady, Ready: true})
	if err != nil {
		return err
	}
	s := *a.System
	if !s.Ready {
		return errors.New("the GPU does not take the state")
	}
	if s.DevTools || !s.Feature || s.GPUs != b.m.Devices {
		return errors.New("the settings changed while the GPU was appraised")
	}
	return nil
}
