package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"omega/agentloader/bundle"
	"omega/attest"
	"omega/internal/strictjson"
	"omega/policy/compile"
)

const devUsage = "--policy F [--roots F] [--dial HOST:PORT=ADDRESS:PORT]… [--config F] [--port N] [AGENT-FOLDER]…"

// runDev is `omega dev`: a platform without a machine around it, and agents that
// are started anew when their folders change.
func runDev(ctx context.Context, e *env, args []string) error {
	d := &devRun{e: e, dial: map[string]string{}}
	fs := e.flags("dev")
	fs.StringVar(&d.policy, "policy", "", "policy in YAML; keys made here take the place of all keys in it")
	fs.StringVar(&d.roots, "roots", "", "trust roots of the gateway in PEM (default: roots.pem beside the policy, else the public ones)")
	fs.StringVar(&d.config, "config", "", "launch config (JSON), in the place of AGENT-FOLDERs")
	fs.IntVar(&d.port, "port", defaultPort, "port on 127.0.0.1 that the platform listens on")
	fs.Func("dial", "`HOST:PORT=ADDRESS:PORT`: where a host of the policy is reached; its certificate must still be HOST's", d.addDial)
	rest, err := parseMixed(fs, args)
	if err != nil {
		return err
	}
	if d.policy == "" || d.config != "" && len(rest) > 0 {
		return fmt.Errorf("dev: want %s", devUsage)
	}
	if d.folders, err = devFolders(rest); err != nil {
		return err
	}
	defer d.close()
	if err := d.start(ctx); err != nil {
		return err
	}
	return d.watch(ctx)
}

// devRun is one run of `omega dev`.
type devRun struct {
	e             *env
	policy, roots string
	config        string
	port          int
	dial          map[string]string
	folders       []devFolder

	dir       string // of the keys and the manifest
	world     world  // the registry
	publisher devPublisher
	platform  *devPlatform
	running   []devAgent // in the order of folders
	api       *platformClient
}

// devAgent is what runs of one folder.
type devAgent struct {
	name  string
	mark  string
	count int      // starts
	lines []string // that were printed of what it wrote last
}

func (d *devRun) addDial(value string) error {
	from, to, ok := strings.Cut(value, "=")
	if !ok || from == "" || to == "" {
		return errors.New("want HOST:PORT=ADDRESS:PORT")
	}
	d.dial[from] = to
	return nil
}

// start publishes the agents and starts the platform with them.
func (d *devRun) start(ctx context.Context) (err error) {
	if d.dir, err = devDir(); err != nil {
		return err
	}
	out, keys, err := devPolicy(d.policy, d.dir)
	if err != nil {
		return err
	}
	if err := d.world.startRegistry(); err != nil {
		return err
	}
	d.publisher = devPublisher{registry: d.world.registry, keys: keys, document: out.Document, engines: map[string]bundle.Digest{}}
	o := devOptions{Policy: out, Port: d.port, OnLine: d.say}
	if o.Roots, err = (buildOptions{Policy: d.policy, Roots: d.roots}).trustRoots(); err != nil {
		return err
	}
	if o.Config, err = d.launchConfig(ctx); err != nil {
		return err
	}
	if d.platform, err = startDev(ctx, d.e, o); err != nil {
		return err
	}
	if err := d.describe(out); err != nil {
		return err
	}
	d.e.sayf("Nothing here is attested: these are processes of this machine. Keys made here stand for everybody's.")
	d.e.sayf("https://127.0.0.1:%d is the platform; `omega agents --dev https://127.0.0.1:%d` and other verbs with --dev talk to it.", d.platform.Port, d.platform.Port)
	d.e.sayf("The log opens with %s. Ctrl-C ends everything.", d.publisher.keys.files.path("auditor.pem"))
	return nil
}

// launchConfig deploys each folder once.
func (d *devRun) launchConfig(ctx context.Context) ([]byte, error) {
	if d.config != "" {
		b, err := os.ReadFile(d.config)
		if err != nil {
			return nil, fmt.Errorf("launch config: %w", err)
		}
		return b, nil
	}
	deployments := []json.RawMessage{}
	for _, f := range d.folders {
		a, statement, err := d.next(ctx, f, devAgent{})
		if err != nil {
			return nil, err
		}
		d.running = append(d.running, a)
		deployments = append(deployments, statement)
	}
	return json.Marshal(map[string]any{
		"version": "omega/launch/v1", "registry": map[string]any{"mirror": "http://" + d.world.registry},
		"dial": d.dial, "deployments": deployments,
	})
}

// next publishes a folder as it is now, for the start after a's.
func (d *devRun) next(ctx context.Context, f devFolder, a devAgent) (devAgent, json.RawMessage, error) {
	mark, err := f.mark()
	if err != nil {
		return a, nil, fmt.Errorf("agent folder: %w", err)
	}
	m, err := f.manifest()
	if err != nil {
		return a, nil, err
	}
	a = devAgent{name: m.Name, mark: mark, count: a.count + 1}
	statement, err := d.publisher.publish(ctx, f, devInstance(a.name, a.count))
	return a, statement, err
}

// describe writes what --dev reads: the manifest of an image that is none.
func (d *devRun) describe(out *compile.Output) error {
	m := attest.Manifest{
		Type: attest.StatementType, PredicateType: attest.ReleasePredicate,
		Subject: []attest.Subject{{Name: "policy", Digest: attest.SubjectDigest{SHA256: out.Digest}}},
		Predicate: attest.Release{
			Profile: "dev", SVN: 1, Expires: time.Now().Add(24 * time.Hour).UTC().Truncate(time.Second), PolicyDigest: out.Digest,
			LaunchDigests: []attest.LaunchDigest{{VCPUs: 1, CPU: "none", GuestFeatures: "0x1", Digest: devDigest}},
			Source:        map[string]attest.Bytes32{},
		},
	}
	b, err := strictjson.Canonical(m)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(d.dir, "manifest.json"), b, 0o644)
}

// say prints the platform's console, but for what only a machine's matters in.
func (d *devRun) say(line string) {
	if !strings.HasPrefix(line, "omega: phase ") {
		fmt.Fprintln(d.e.Stdout, line)
	}
}

// devPoll is how often the folders are looked at.
const devPoll = 300 * time.Millisecond

// watch starts agents anew until the user or the platform ends it.
func (d *devRun) watch(ctx context.Context) error {
	tick := time.NewTicker(devPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return d.platform.Stop()
		case <-d.platform.ended:
			return errors.Join(errors.New("dev: the platform ended"), d.platform.err)
		case <-tick.C:
		}
		d.listen(ctx)
		for i, f := range d.folders {
			if err := d.refresh(ctx, f, &d.running[i]); err != nil && ctx.Err() == nil {
				d.e.sayf("%s: %v", f.dir, err)
			}
		}
	}
}

// refresh starts what a folder holds now, in the place of what it held.
func (d *devRun) refresh(ctx context.Context, f devFolder, a *devAgent) error {
	mark, err := f.mark()
	if err != nil || mark == a.mark {
		return nil // an editor is at work
	}
	begin := time.Now()
	a.mark = mark // tried once for each change
	next, statement, err := d.next(ctx, f, *a)
	if err != nil {
		return err
	}
	p, err := d.client(ctx)
	if err != nil {
		return err
	}
	if err := d.remove(ctx, p, devInstance(a.name, a.count)); err != nil {
		return err
	}
	*a = next
	var done orderDone
	if err := p.post(ctx, deployPath, statement, &done); err != nil {
		return err
	}
	d.e.sayf("%s changed: %s %s after %s", f.dir, done.Instance, done.State, time.Since(begin).Round(time.Millisecond))
	return nil
}

// client talks to the platform as the person at the keyboard.
func (d *devRun) client(ctx context.Context) (_ *platformClient, err error) {
	if d.api != nil {
		return d.api, nil
	}
	o := verifyOptions{Source: fmt.Sprintf("https://127.0.0.1:%d", d.platform.Port)}
	if err := o.acceptDev("true"); err != nil {
		return nil, err
	}
	d.api, err = openPlatform(ctx, &env{Stdin: d.e.Stdin, Stdout: d.e.Stdout, Stderr: io.Discard}, o)
	return d.api, err
}

// listen prints what the agents wrote since the last time.
func (d *devRun) listen(ctx context.Context) {
	p, err := d.client(ctx)
	if err != nil {
		return // not serving yet, or ending
	}
	for i := range d.running {
		a := &d.running[i]
		instance := devInstance(a.name, a.count)
		var out struct{ Lines []string }
		if err := p.get(ctx, agentsPath+"/"+instance+"/output", &out); err != nil {
			continue // not started yet
		}
		for _, line := range out.Lines[overlap(a.lines, out.Lines):] {
			fmt.Fprintf(d.e.Stdout, "%s: %s\n", instance, plain(line))
		}
		a.lines = out.Lines
	}
}

// overlap is how many lines at the end of old are the first ones of new.
func overlap(old, lines []string) int {
	for n := min(len(old), len(lines)); n > 0; n-- {
		if slices.Equal(old[len(old)-n:], lines[:n]) {
			return n
		}
	}
	return 0
}

// remove stops an instance that may have ended already.
func (d *devRun) remove(ctx context.Context, p *platformClient, instance string) error {
	list, err := listAgents(ctx, p)
	if err != nil {
		return err
	}
	for _, a := range list {
		if a.Instance != instance || a.State != attest.AgentRunning && a.State != attest.AgentAdmitted {
			continue
		}
		digest, err := bundle.ParseDigest(a.Bundle)
		if err != nil {
			return err
		}
		d.publisher.serial++
		statement, err := bundle.SignRemoval(d.publisher.keys.deployer, bundle.Removal{
			Bundle: digest, Instance: instance, Audience: d.publisher.keys.audience, GraceSeconds: 1,
			Serial: uint64(time.Now().UnixMilli())<<8 + d.publisher.serial, Expires: time.Now().Add(time.Minute),
		})
		if err != nil {
			return err
		}
		return p.post(ctx, agentsPath+"/"+instance+"/stop", statement, &orderDone{})
	}
	return nil
}

func (d *devRun) close() {
	if d.api != nil {
		d.api.close()
	}
	if d.platform != nil {
		_ = d.platform.Stop()
	}
	d.world.stop()
}
