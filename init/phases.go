package main

import (
	"context"
	"errors"
	"time"

	"omega/init/internal/console"
)

// phase is one step of the boot.
type phase struct {
	name    string
	run     func(ctx context.Context) error
	timeout time.Duration
}

// quick is enough for a phase that waits for nobody outside; slow is for those
// that talk to the host.
const (
	quick = 60 * time.Second
	slow  = 180 * time.Second
)

// phases is the boot, in order (DESIGN section 5). The first error powers the
// machine off. Deployments are bounded one by one, not as a phase.
func (g *guest) phases() []phase {
	return []phase{
		{"mount", g.mount, quick},
		{"root", g.root, quick},
		{"console", g.openConsole, quick},
		{"entropy", g.entropy, quick},
		{"time", g.time, quick},
		{"policy", g.loadPolicy, quick},
		{"keys", g.keys, slow},
		{"log", g.startLog, slow},
		{"config", g.loadConfig, quick},
		{"gpu", g.gpu, quick},
		{"modules", g.lockModules, quick},
		{"network", g.network, slow},
		{"front", g.startFront, quick},
		{"gateway", g.startGateway, quick},
		{"agents", g.startAgents, 0},
		{"ready", g.ready, quick},
	}
}

// boot runs all phases and returns the first error.
func boot(ctx context.Context, c *console.Console, phases []phase) error {
	for _, p := range phases {
		c.Mark("phase " + p.name)
		if err := p.within(ctx); err != nil {
			return &fault{reason: "phase " + p.name, err: err}
		}
	}
	return nil
}

func (p *phase) within(ctx context.Context) error {
	if p.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.timeout)
		defer cancel()
	}
	return p.run(ctx)
}

// fault is an error with the fixed words that the console gives as the reason
// for powering off. Its err may quote the host and goes to the log only.
type fault struct {
	reason string
	err    error
}

// Error gives the reason and the cause.
func (f *fault) Error() string { return f.reason + ": " + f.err.Error() }

// Unwrap gives the cause.
func (f *fault) Unwrap() error { return f.err }

// fail makes a fault.
func fail(reason string, err error) error { return &fault{reason: reason, err: err} }

// reason is the fixed words of err: those of all its faults, outermost first.
func reason(err error) string {
	words := ""
	for f := (*fault)(nil); errors.As(err, &f); err = f.err {
		if words != "" {
			words += ": "
		}
		words += f.reason
	}
	if words == "" {
		return "internal error"
	}
	return words
}
