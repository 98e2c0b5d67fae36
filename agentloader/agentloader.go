// Package agentloader admits agents: it takes a signed deployment, pulls the bundle that it names,
// checks every principal's signature against the measured policy, and flattens the image.
//
// Everything that comes in is hostile: deployment, registry, manifests, layers. Nothing is run here,
// and nothing is recorded: the caller records the admission or the refusal before it acts on it.
package agentloader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"omega/agentloader/bundle"
	"omega/agentloader/flatten"
	"omega/agentloader/layout"
	"omega/agentloader/registry"
)

// Config is what a Loader works with.
type Config struct {
	Platform string // the platform set; deployments for it are for this machine
	BootID   string // hex; deployments for it are for this boot
	Trust    Trust
	Registry registry.Config
	Layout   io.ReaderAt // an OCI layout in a tar archive, which comes before the registry; nil: none
	Dir      string      // images are kept here; a tmpfs
	Shim     []byte      // the shim's binary, put into every image
	Bounds   Bounds
	// Refused, if given, says why a bundle is not to be run although every
	// signature is there: it, a component or a key was revoked.
	Refused func(d Digest, components []Component) error
	// Key, if given, asks a key broker for what kbs:///REPOSITORY/TYPE/TAG names. The loader clears it.
	Key func(ctx context.Context, resource string) ([]byte, error)
	// OnDisk, if given, says whether a disk of the machine holds the file of that verity root and size.
	OnDisk  func(ctx context.Context, root Digest, size int64) (bool, error)
	Timeout time.Duration // of one whole admission; zero means ten minutes
	Now     func() time.Time
	Log     *slog.Logger
}

// Bounds of one agent's image. Zero fields get the defaults.
type Bounds struct {
	Pulled   int64 // bytes of all layers as they are pulled
	Unpacked int64 // bytes of all files
	Entries  int   // tar entries
}

// Why a deployment is refused. Other reasons are bundle's, registry's and flatten's.
var (
	ErrReplayed   = errors.New("statement was accepted before")
	ErrExpired    = errors.New("statement has expired")
	ErrAudience   = errors.New("statement is for another platform")
	ErrDeployment = errors.New("deployment is not valid")
	ErrRemoval    = errors.New("removal is not valid")
	ErrFault      = errors.New("fault while reading the bundle")
)

// Refusal says what was refused and why. Instance, Name and Bundle may be missing or, before the
// deployment's signature is checked, anybody's claim.
type Refusal struct {
	Instance string
	Name     string
	Bundle   bundle.Digest
	Reason   error
}

// Error says it in one line.
func (r *Refusal) Error() string { return r.Reason.Error() }

// Unwrap lets errors.Is see the reason.
func (r *Refusal) Unwrap() error { return r.Reason }

// What the policy and the bundle say, in the words of package bundle, which the host shares.
type (
	Trust       = bundle.Trust
	Principal   = bundle.Principal
	Server      = bundle.Server
	AgentRule   = bundle.AgentRule
	Requirement = bundle.Requirement
	Component   = bundle.Component
	Digest      = bundle.Digest
	ToolSet     = bundle.ToolSet
)

// Admitted is an agent that may be run.
type Admitted struct {
	Instance   string
	Name       string
	Bundle     bundle.Digest
	Manifest   *bundle.Manifest
	ImagePath  string            // EROFS, with the shim
	Env        map[string]string // the image's and the manifest's
	Dir        string            // the image's working directory
	Tools      []ToolSet
	Files      []File
	Components []Component

	held []string // in the store
}

// Loader admits agents.
type Loader struct {
	cfg      Config
	checker  *bundle.Checker
	registry *registry.Client
	layout   *layout.Layout // nil: none that can be read
	store    *store

	mu       sync.Mutex
	accepted map[acceptance]bool // deployments, now and before
}

// acceptance is what may happen once: a key's serial.
type acceptance struct {
	key    string
	serial uint64
}

// maxAccepted bounds the memory of accepted deployments; beyond it nothing is accepted until the next boot.
const maxAccepted = 1 << 16

// New checks the configuration.
func New(cfg Config) (*Loader, error) {
	if cfg.Platform == "" || len(cfg.Shim) == 0 || cfg.Now == nil || cfg.Log == nil {
		return nil, errors.New("loader needs a platform, a shim, a clock and a log")
	}
	for _, d := range []struct {
		v   *int64
		def int64
	}{{&cfg.Bounds.Pulled, 512 << 20}, {&cfg.Bounds.Unpacked, 1 << 30}} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	if cfg.Bounds.Entries <= 0 {
		cfg.Bounds.Entries = 200_000
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 10 * time.Minute
	}
	t, err := bundle.NewChecker(cfg.Trust)
	if err != nil {
		return nil, err
	}
	r, err := registry.New(cfg.Registry)
	if err != nil {
		return nil, err
	}
	images, err := newStore(cfg.Dir)
	if err != nil {
		return nil, err
	}
	l := &Loader{cfg: cfg, checker: t, registry: r, store: images, accepted: map[acceptance]bool{}}
	if cfg.Layout != nil {
		if l.layout, err = layout.Open(cfg.Layout); err != nil {
			// Its place is the host's to fill; agents that a registry has need not suffer.
			cfg.Log.Warn("layout disk", "error", err)
		}
	}
	return l, nil
}

// Admit checks a deployment and everything that it names. The error is a *Refusal.
func (l *Loader) Admit(ctx context.Context, deployment []byte) (*Admitted, error) {
	return l.AdmitFor(ctx, deployment, func(string) bool { return true })
}

// AdmitFor is Admit for somebody who may have agents deployed whose names may says yes to.
func (l *Loader) AdmitFor(ctx context.Context, deployment []byte, may func(name string) bool) (_ *Admitted, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, l.cfg.Timeout, fmt.Errorf("%w: admission not done after %v", registry.ErrSlow, l.cfg.Timeout))
	defer cancel()
	r := &Refusal{}
	if claim, err := bundle.ParseDeployment(deployment); err == nil {
		r.Instance, r.Bundle = claim.Instance, claim.Bundle
	}
	defer func() {
		// Parsers of others read hostile layers here. Should one stumble, that costs this deployment.
		if p := recover(); p != nil {
			r.Reason = fmt.Errorf("%w: %v", ErrFault, p)
			err = r
		}
	}()
	a, err := l.admit(ctx, deployment, may, r)
	if err != nil {
		r.Reason = err
		return nil, r
	}
	return a, nil
}

func (l *Loader) admit(ctx context.Context, raw []byte, may func(string) bool, r *Refusal) (_ *Admitted, err error) {
	d, ids, err := bundle.VerifyDeployment(raw, l.checker.Deployers())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDeployment, err)
	}
	if err := l.current(d.Audience, d.Expires); err != nil {
		return nil, err
	}
	if err := l.claim(ids, d.Serial); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil { // a registry that was away must not burn the deployment
			l.release(ids, d.Serial)
		}
	}()
	repo, err := l.open(ctx, d)
	if err != nil {
		return nil, err
	}
	checked, err := l.checker.Check(ctx, repo, d.Bundle)
	if checked.Manifest != nil {
		r.Name = checked.Manifest.Name
		if !may(r.Name) {
			return nil, ErrCaller
		}
	}
	if err != nil {
		return nil, err
	}
	if err := l.checker.MayDeploy(ids, r.Name); err != nil {
		return nil, err
	}
	if l.cfg.Refused != nil {
		if err := l.cfg.Refused(d.Bundle, checked.Components); err != nil {
			return nil, err
		}
	}
	return (&candidate{loader: l, repo: repo, checked: checked}).pull(ctx, d.Instance)
}

// claim takes a deployment's serial for every key that signed it, or none.
func (l *Loader) claim(ids []string, serial uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		if l.accepted[acceptance{id, serial}] {
			return fmt.Errorf("%w: serial %d", ErrReplayed, serial)
		}
	}
	if len(l.accepted)+len(ids) > maxAccepted {
		return fmt.Errorf("%w: too many to remember", ErrDeployment)
	}
	for _, id := range ids {
		l.accepted[acceptance{id, serial}] = true
	}
	return nil
}

func (l *Loader) release(ids []string, serial uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		delete(l.accepted, acceptance{id, serial})
	}
}

func (b Bounds) flatten() flatten.Limits {
	return flatten.Limits{Bytes: b.Unpacked, Entries: b.Entries}
}
