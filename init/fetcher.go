package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"omega/agentloader"
	"omega/agentloader/registry"
	"omega/attest"
	"omega/internal/labelhash"
	"omega/internal/wire"
	"omega/policy"
	"omega/policy/provenance"
)

// imageDir is where the fetcher flattens images: a tmpfs of its own.
const imageDir = "/run/fetcher"

// fetcher pulls bundles, verifies every principal against the measured policy,
// and hands what it admits to sandboxd. All that it reads is hostile; what it
// decides is in the log before sandboxd hears of it.
type fetcher struct {
	c             *child
	log, sandboxd *wire.Client

	mu     sync.Mutex // guards what follows; one deployment at a time
	loader admitter
	policy attest.Bytes32
}

// admitter is the agentloader.Loader.
type admitter interface {
	Admit(ctx context.Context, deployment []byte) (*agentloader.Admitted, error)
}

// admitTimeout bounds one admission, so that PID 1 gives up a deployment only
// when the fetcher has: a slow registry must not take the next one's time.
const admitTimeout = deployTimeout - time.Minute

func runFetcher(ctx context.Context, c *child) error {
	f := &fetcher{c: c}
	for peer, to := range map[string]**wire.Client{"log": &f.log, "sandboxd": &f.sandboxd} {
		cl, err := c.client(peer)
		if err != nil {
			return err
		}
		*to = cl
	}
	return serveAll(ctx, c, map[string]map[string]wire.Handler{
		"pid1": {opStart: handle(f.start), opDeploy: handle(f.deploy)},
	})
}

func (f *fetcher) start(_ context.Context, req fetcherStart) (nothing, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.loader != nil {
		return nothing{}, errors.New("start: already started")
	}
	p, err := checkedPolicy(req.PolicyDigest)
	if err != nil {
		return nothing{}, err
	}
	shim, err := readBounded(shimFile)
	if err != nil {
		return nothing{}, err
	}
	cfg := f.config(p.Document, req, shim)
	revoked, err := newRevoked(p.Document, req.Revocations, time.Now)
	if err != nil {
		return nothing{}, err
	}
	cfg.Refused = revoked.check
	loader, err := agentloader.New(cfg)
	if err != nil {
		return nothing{}, err
	}
	f.policy, f.loader = req.PolicyDigest, loader
	return nothing{}, nil
}

func (f *fetcher) config(d *policy.Document, req fetcherStart, shim []byte) agentloader.Config {
	return agentloader.Config{
		Platform: d.Platform,
		BootID:   hex.EncodeToString(req.BootID[:]),
		Trust:    trustOf(d),
		Registry: registry.Config{Mirror: req.Mirror, Dial: req.Dial},
		Dir:      imageDir,
		Shim:     shim,
		Timeout:  admitTimeout,
		Now:      time.Now,
		Log:      f.c.log,
	}
}

// trustOf says in the loader's words what the policy says about signatures.
func trustOf(d *policy.Document) agentloader.Trust {
	var t agentloader.Trust
	for _, p := range d.Principals {
		own := agentloader.Principal{Name: p.Name, Threshold: p.Threshold, Roles: p.Roles, Names: p.Names}
		for _, k := range p.Keys {
			own.Keys = append(own.Keys, k.PEM)
		}
		t.Principals = append(t.Principals, own)
	}
	for _, s := range d.Servers {
		t.Servers = append(t.Servers, agentloader.Server{Name: s.Name, Principal: s.Principal})
	}
	for _, a := range d.Agents {
		own := agentloader.AgentRule{Name: a.Name, Combine: a.Combine}
		for _, r := range a.Requires {
			own.Requires = append(own.Requires, agentloader.Requirement(r))
		}
		t.Agents = append(t.Agents, own)
	}
	return t
}

// deploy admits and starts one agent, or refuses it. Either is in the log
// before anything else happens. What goes wrong with one deployment, or with
// its entries, costs that deployment: an error would power the platform off.
func (f *fetcher) deploy(ctx context.Context, req deployRequest) (deployReply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.loader == nil {
		return deployReply{}, errNotStarted
	}
	a, err := f.loader.Admit(ctx, req.Deployment)
	var refusal *agentloader.Refusal
	switch {
	case errors.As(err, &refusal):
		return f.refuse(ctx, refusal), nil
	case err != nil:
		return deployReply{}, err
	}
	if err := f.run(ctx, a); err != nil {
		return f.refuse(ctx, &agentloader.Refusal{Instance: a.Instance, Name: a.Name, Bundle: a.Bundle, Reason: err}), nil
	}
	return deployReply{Instance: a.Instance, Started: true}, nil
}

// run enters the admission and has sandboxd start the agent.
func (f *fetcher) run(ctx context.Context, a *agentloader.Admitted) error {
	run, err := f.admission(ctx, a)
	if err != nil {
		return err
	}
	image, err := os.Open(a.ImagePath)
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	defer image.Close()
	_, err = f.sandboxd.Call(ctx, opRun, run, nil, image)
	return err
}

// decision is what an admission or refusal entry says beside the instance.
type decision struct {
	Name       string             `json:"name,omitempty"`
	Bundle     string             `json:"bundle,omitempty"`
	Components []attest.Component `json:"components,omitempty"`
}

func (f *fetcher) refuse(ctx context.Context, r *agentloader.Refusal) deployReply {
	reason := clip(strings.ToValidUTF8(r.Reason.Error(), "\uFFFD"), maxReason)
	f.c.log.Warn("deployment refused", "instance", r.Instance, "name", r.Name, "reason", reason)
	d := decision{Name: r.Name}
	if !r.Bundle.IsZero() {
		d.Bundle = r.Bundle.String()
	}
	if err := f.record(ctx, provenance.KindRefusal, provenance.Deny, r.Instance, [32]byte{}, d, []string{reason}); err != nil {
		f.c.log.Error("refusal not recorded", "instance", r.Instance, "error", err)
	}
	return deployReply{Instance: r.Instance, Reason: reason}
}

// admission turns what the loader admitted into what sandboxd runs, and enters
// it into the log. Each component gets a fresh salt, so that an agent's identity
// tells nothing about a component that is not opened.
func (f *fetcher) admission(ctx context.Context, a *agentloader.Admitted) (runRequest, error) {
	run := runRequest{
		Instance: a.Instance,
		Name:     a.Name,
		Bundle:   attest.Bytes32(a.Bundle),
		Command:  a.Manifest.Command,
		Env:      a.Env,
		Dir:      a.Dir,
		Models:   a.Manifest.Models,
		Limits:   agentLimits(a.Manifest.Limits),
		Restart:  a.Manifest.Restart,
		Serve:    a.Manifest.Serve,
	}
	for _, t := range a.Tools {
		run.Tools = append(run.Tools, toolSet{Server: t.Server, Descriptors: t.Descriptors})
	}
	components := []attest.Component{
		{Kind: attest.KindPolicy, Name: "agent policy", Digest: f.policy, Role: "operator", Principal: "measured image"},
		{Kind: attest.KindSandbox, Name: "gvisor systrap", Digest: sandboxDigest(a), Role: "operator", Principal: "measured image"},
	}
	for _, c := range a.Components {
		components = append(components, attest.Component{Kind: c.Kind, Name: c.Name, Digest: attest.Bytes32(c.Digest),
			Role: c.Role, Principal: c.Principal, Signatures: signaturesOf(c)})
	}
	for i := range components {
		if _, err := rand.Read(components[i].Salt[:]); err != nil {
			return runRequest{}, fmt.Errorf("salt: %w", err)
		}
	}
	run.Components = components
	d := decision{Name: a.Name, Bundle: a.Bundle.String(), Components: components}
	return run, f.record(ctx, provenance.KindAdmission, provenance.Permit, a.Instance, attest.IdentityRoot(components), d, nil)
}

// signaturesOf are the principal's signatures, as evidence carries them.
func signaturesOf(c agentloader.Component) []attest.Signature {
	var out []attest.Signature
	for _, s := range c.Signatures {
		out = append(out, attest.Signature{Key: s.Key, Payload: s.Payload, Sig: s.Sig})
	}
	return out
}

// sandboxDigest stands for how the agent is run: its command, environment and limits.
func sandboxDigest(a *agentloader.Admitted) attest.Bytes32 {
	parts := [][]byte{[]byte(a.Dir)}
	for _, w := range a.Manifest.Command {
		parts = append(parts, []byte(w))
	}
	parts = append(parts, nil) // ends the command
	for _, k := range slices.Sorted(maps.Keys(a.Env)) {
		parts = append(parts, []byte(k), []byte(a.Env[k]))
	}
	l := a.Manifest.Limits
	parts = append(parts, fmt.Appendf(nil, "%d %d %d", l.MemoryBytes, l.CPUMillis, l.Processes))
	if r := a.Manifest.Restart; r != nil {
		parts = append(parts, fmt.Appendf(nil, "%s %d", r.When, r.Max))
	}
	return labelhash.Sum256("omega/sandbox/v1", parts...)
}

func (f *fetcher) record(ctx context.Context, kind, decided, instance string, identity [32]byte, d decision, reasons []string) error {
	result, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("%s entry: %w", kind, err)
	}
	return appendEntry(ctx, f.log, provenance.Entry{Kind: kind, Agent: instance, Identity: identity, Action: "deploy",
		Decision: decided, Reasons: reasons, Result: result, PolicyDigest: f.policy})
}

// maxReason bounds a refusal's words on the console and in the log.
const maxReason = 600

// clip shortens s to at most n bytes of whole characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
