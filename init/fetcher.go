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
	"omega/agentloader/bundle"
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

	mu       sync.Mutex // guards what follows
	loader   admitter
	revoked  *revoked
	policy   attest.Bytes32
	deployed map[string]agentloader.Running // by instance, whether they still run or not
	inUse    map[string]*agentloader.Admitted
	kinds    // what the policy says of how agents run
}

// admitter is the agentloader.Loader.
type admitter interface {
	AdmitFor(ctx context.Context, deployment []byte, may func(name string) bool) (*agentloader.Admitted, error)
	Release(a *agentloader.Admitted)
	Remove(removal []byte, find func(instance string) (agentloader.Running, bool)) (*bundle.Removal, error)
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
		"pid1":  {opStart: handleFile(f.start), opDeploy: handle(f.deploy), opEnded: handle(f.ended)},
		"front": {opOrder: handle(f.order)},
	})
}

func (f *fetcher) start(_ context.Context, req fetcherStart, disk *os.File) (nothing, error) {
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
	if disk != nil {
		cfg.Layout = disk // open for as long as the fetcher lives
	}
	revoked, err := newRevoked(p.Document, req.Revocations, time.Now)
	if err != nil {
		return nothing{}, err
	}
	cfg.Refused, cfg.OnDisk = revoked.check, f.onDisk
	if cfg.Key, err = f.layerKeys(p.Document, req.Dial); err != nil {
		return nothing{}, err
	}
	loader, err := agentloader.New(cfg)
	if err != nil {
		return nothing{}, err
	}
	f.revoked = revoked
	f.policy, f.loader, f.deployed = req.PolicyDigest, loader, map[string]agentloader.Running{}
	f.kinds = kindsOf(p.Document)
	return nothing{}, nil
}

func (f *fetcher) config(d *policy.Document, req fetcherStart, shim []byte) agentloader.Config {
	return agentloader.Config{
		Platform: d.Platform,
		BootID:   hex.EncodeToString(req.BootID[:]),
		Trust:    trustOf(d),
		Registry: registry.Config{Mirror: req.Mirror, Dial: req.Dial, Log: f.c.log},
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

// deploy admits and starts one agent of the launch config, or refuses it.
func (f *fetcher) deploy(ctx context.Context, req deployRequest) (deployReply, error) {
	a, refusal, err := f.admit(ctx, req.Deployment, asker{})
	switch {
	case err != nil:
		return deployReply{}, err
	case refusal != nil:
		return deployReply{Instance: refusal.Instance, Reason: inWords(refusal.Reason)}, nil
	}
	return deployReply{Instance: a.Instance, Started: true}, nil
}

// admit admits and starts one agent, or refuses it. Either is in the log before
// anything else happens. What goes wrong with one deployment, or with its
// entries, costs that deployment: an error would power the platform off.
func (f *fetcher) admit(ctx context.Context, deployment []byte, by asker) (*agentloader.Admitted, *agentloader.Refusal, error) {
	loader, err := f.started()
	if err != nil {
		return nil, nil, err
	}
	a, err := loader.AdmitFor(ctx, deployment, by.may)
	var refusal *agentloader.Refusal
	switch {
	case errors.As(err, &refusal):
		f.refuse(ctx, refusal, "deploy", by)
		return nil, refusal, nil
	case err != nil:
		return nil, nil, err
	}
	if err := f.run(ctx, a, by); err != nil {
		refusal = &agentloader.Refusal{Instance: a.Instance, Name: a.Name, Bundle: a.Bundle, Reason: err}
		f.refuse(ctx, refusal, "deploy", by)
		return nil, refusal, nil
	}
	return a, nil, nil
}

func (f *fetcher) started() (admitter, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.loader == nil {
		return nil, errNotStarted
	}
	return f.loader, nil
}

// run enters the admission and has sandboxd start the agent.
func (f *fetcher) run(ctx context.Context, a *agentloader.Admitted, by asker) (err error) {
	err = f.fits(a)
	if err == nil {
		err = f.take(a)
	}
	if err != nil {
		f.loader.Release(a)
		return err
	}
	f.keep(a) // before it runs: it may end at once
	defer func() {
		if err != nil {
			f.giveBack(a.Instance)
			_, _ = f.ended(ctx, endedRequest{Instance: a.Instance}) // never fails
		}
	}()
	run, err := f.admission(ctx, a, by)
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
	Instance   string             `json:"instance,omitempty"` // that a refused statement of a caller's names: nobody vouches for it
	Name       string             `json:"name,omitempty"`
	Bundle     string             `json:"bundle,omitempty"`
	Components []attest.Component `json:"components,omitempty"`
	Caller     string             `json:"caller,omitempty"` // who handed it in over the network
}

// refuse enters a refusal of what was asked: deploy or remove.
func (f *fetcher) refuse(ctx context.Context, r *agentloader.Refusal, what string, by asker) {
	reason := inWords(r.Reason)
	f.c.log.Warn("refused", "what", what, "instance", r.Instance, "name", r.Name, "reason", reason)
	d := decision{Name: r.Name, Caller: by.caller}
	if !r.Bundle.IsZero() {
		d.Bundle = r.Bundle.String()
	}
	e := provenance.Entry{Kind: provenance.KindRefusal, Agent: r.Instance, Action: what, Decision: provenance.Deny, Reasons: []string{reason}}
	if by.caller != "" { // who hands in nonsense in the name of an agent must not fill that agent's share of the log
		e.Agent, d.Instance = by.account(), r.Instance
	}
	if err := f.record(ctx, e, d); err != nil {
		f.c.log.Error("refusal not recorded", "instance", r.Instance, "error", err)
	}
}

// inWords are a refusal's words, for the console, the log and the caller.
func inWords(err error) string { return clip(strings.ToValidUTF8(err.Error(), "\uFFFD"), maxReason) }

// admission turns what the loader admitted into what sandboxd runs, and enters
// it into the log. Each component gets a fresh salt, so that an agent's identity
// tells nothing about a component that is not opened.
func (f *fetcher) admission(ctx context.Context, a *agentloader.Admitted, by asker) (runRequest, error) {
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
		Files:    runFiles(a),
		Stdio:    a.Manifest.Server != nil,
		Warm:     a.Manifest.Warm,
		OnDemand: a.Manifest.Server != nil || a.Manifest.Engine != nil || f.clean[a.Name],
		Engine:   a.Manifest.Engine, Inference: a.Manifest.Inference,
		A2A: a2aOf(a),
	}
	if f.revoked != nil {
		var err error
		if run.Until, err = f.revoked.until(); err != nil {
			return runRequest{}, err
		}
	}
	for _, t := range a.Tools {
		run.Tools = append(run.Tools, toolSet{Server: t.Server, Descriptors: t.Descriptors})
	}
	components := []attest.Component{
		{Kind: attest.KindPolicy, Name: "agent policy", Digest: f.policy, Role: "operator", Principal: "measured image"},
		{Kind: attest.KindSandbox, Name: confinement(a), Digest: sandboxDigest(a), Role: "operator", Principal: "measured image"},
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
	e := provenance.Entry{Kind: provenance.KindAdmission, Agent: a.Instance, Identity: attest.IdentityRoot(components), Action: "deploy", Decision: provenance.Permit}
	return run, f.record(ctx, e, decision{Name: a.Name, Bundle: a.Bundle.String(), Components: components, Caller: by.caller})
}

// signaturesOf are the principal's signatures, as evidence carries them.
func signaturesOf(c agentloader.Component) []attest.Signature {
	var out []attest.Signature
	for _, s := range c.Signatures {
		out = append(out, attest.Signature{Key: s.Key, Payload: s.Payload, Sig: s.Sig})
	}
	return out
}

// confinement names what stands between the agent and the guest.
func confinement(a *agentloader.Admitted) string {
	if a.Manifest.Engine != nil {
		return "native: namespaces, landlock, seccomp"
	}
	return "gvisor systrap"
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
	parts = append(parts, fmt.Appendf(nil, "%d %d %d %d", l.MemoryBytes, l.CPUMillis, l.Processes, l.IOBytes))
	if r := a.Manifest.Restart; r != nil {
		parts = append(parts, fmt.Appendf(nil, "%s %d", r.When, r.Max))
	}
	if s := a.Manifest.Server; s != nil {
		parts = append(parts, []byte("server "+s.Transport))
	}
	if w := a.Manifest.Warm; w != nil && w.Ahead {
		parts = append(parts, []byte("started ahead"))
	}
	if e := a.Manifest.Engine; e != nil {
		parts = append(parts, fmt.Appendf(nil, "engine %d %t", e.Most(), e.GPU))
		for _, w := range e.AdapterArgs {
			parts = append(parts, []byte(w))
		}
	}
	return labelhash.Sum256("omega/sandbox/v1", parts...)
}

// record enters e with d as its result.
func (f *fetcher) record(ctx context.Context, e provenance.Entry, d decision) error {
	result, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("%s entry: %w", e.Kind, err)
	}
	e.Result, e.PolicyDigest = result, f.policy
	return appendEntry(ctx, f.log, e)
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
