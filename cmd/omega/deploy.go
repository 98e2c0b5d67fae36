package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"omega/agentloader/bundle"
)

// deployUsage is the one line of `omega deploy`'s arguments.
const deployUsage = "URL [STATEMENT] | URL --bundle HOST/REPO@sha256:… --instance I --key K | URL --remove INSTANCE --key K [--grace 10s]; [--audience A] [--serial N] [--for 1h] [--json] and the flags of verify"

// Where a platform lists agents and takes orders about them.
const (
	agentsPath = "/v1/agents"
	deployPath = "/v1/deploy"
)

// deployOptions say what is handed in, and to whom.
type deployOptions struct {
	verify    verifyOptions
	statement string // file with a signed statement, or - for stdin
	bundle    string
	instance  string
	remove    string // instance
	key       string // of a deployer; signs what is not signed yet
	audience  string
	serial    uint64
	valid     time.Duration
	grace     time.Duration
	plain     bool
}

// orderDone is the platform's answer to an order that it carried out.
type orderDone struct {
	Instance string `json:"instance"`
	Name     string `json:"name,omitempty"`
	Bundle   string `json:"bundle"`
	State    string `json:"state"`
	ExitCode *int   `json:"exit_code,omitempty"`
}

// runDeploy is `omega deploy`: has a platform run an agent, or stop one.
func runDeploy(ctx context.Context, e *env, args []string) error {
	var o deployOptions
	fs := e.flags("deploy")
	o.flags(fs)
	asJSON := fs.Bool("json", false, "print JSON")
	rest, err := parseMixed(fs, args)
	if err != nil {
		return err
	}
	if err := o.check(rest); err != nil {
		return err
	}
	p, err := openPlatform(ctx, e, o.verify)
	if err != nil {
		return err
	}
	defer p.close()
	statement, err := o.read(ctx, e, p)
	if err != nil {
		return err
	}
	path := deployPath
	if o.remove != "" {
		path = agentsPath + "/" + o.remove + "/stop"
	}
	bar := e.progress("waiting for " + p.channel.target.Host + " to carry it out")
	defer bar.Done()
	var done orderDone
	if err := p.post(ctx, path, statement, &done); err != nil {
		return err
	}
	if *asJSON {
		return json.NewEncoder(e.Stdout).Encode(done)
	}
	words := fmt.Sprintf("%s: %s, bundle %s", plain(done.Instance), plain(done.State), plain(done.Bundle))
	if done.ExitCode != nil {
		words += fmt.Sprintf(", exit code %d", *done.ExitCode)
	}
	_, err = fmt.Fprintln(e.Stdout, words)
	return err
}

func (o *deployOptions) flags(fs *flag.FlagSet) {
	o.verify.flags(fs)
	fs.StringVar(&o.bundle, "bundle", "", "agent bundle to deploy, or of the instance to remove: HOST/REPOSITORY@sha256:…")
	fs.StringVar(&o.instance, "instance", "", "name of the running agent")
	fs.StringVar(&o.remove, "remove", "", "stop this instance")
	fs.StringVar(&o.key, "key", "", "a deployer's private key (ECDSA P-256, PEM): signs; without --caller-key and --token it is the caller's too")
	fs.StringVar(&o.audience, "audience", "", "the policy's platform, or a boot id (default: the boot that was verified)")
	fs.Uint64Var(&o.serial, "serial", 0, "a number that this key never used before (default: the time in milliseconds)")
	fs.DurationVar(&o.valid, "for", time.Hour, "how long the statement can be accepted")
	fs.DurationVar(&o.grace, "grace", 10*time.Second, "how long a removed agent may take to end before it is killed")
	fs.BoolVar(&o.plain, "plain-http", false, "the bundle's registry speaks HTTP")
}

// check holds the arguments against the three forms of the verb.
func (o *deployOptions) check(rest []string) error {
	if len(rest) == 0 || len(rest) > 2 {
		return fmt.Errorf("deploy: want %s", deployUsage)
	}
	o.verify.Source = rest[0]
	if len(rest) == 2 {
		o.statement = rest[1]
	}
	signs := o.key != ""
	switch {
	case o.statement != "" && (signs || o.bundle != ""):
		return errors.New("deploy: a STATEMENT is signed already; --key and --bundle are for making one")
	case o.statement == "" && !signs:
		return errors.New("deploy: give a signed STATEMENT, or --key to sign one")
	case signs && o.remove == "" && (o.bundle == "" || o.instance == ""):
		return errors.New("deploy: --bundle and --instance say what to deploy, --remove what to stop")
	case o.remove != "" && o.instance != "":
		return errors.New("deploy: --instance is for deploying; --remove names the instance itself")
	case o.remove != "" && !bundle.ValidName(o.remove):
		return fmt.Errorf("deploy: %.80q is no instance's name", o.remove)
	}
	if o.verify.CallerKey == "" && o.verify.Token == "" {
		o.verify.CallerKey = o.key
	}
	if o.serial == 0 {
		o.serial = uint64(time.Now().UnixMilli())
	}
	return nil
}

// read returns the statement: the one that was given, or a new one.
func (o *deployOptions) read(ctx context.Context, e *env, p *platformClient) ([]byte, error) {
	switch o.statement {
	case "":
	case "-":
		return io.ReadAll(io.LimitReader(e.Stdin, bundle.MaxSignature))
	default:
		return readBounded(o.statement, bundle.MaxSignature)
	}
	if o.audience == "" {
		o.audience = p.verification.Evidence.Boot.BootID.String()
	}
	key, err := readKey(o.key)
	if err != nil {
		return nil, err
	}
	if o.remove != "" {
		return o.removal(ctx, p, key)
	}
	ref, err := parseRef(o.bundle, o.plain)
	if err != nil {
		return nil, err
	}
	return o.order(key, ref, o.instance).deployment()
}

// order is what is signed, by key, of an instance of ref's bundle.
func (o *deployOptions) order(key *bundle.PrivateKey, ref bundleRef, instance string) order {
	return order{key: key, ref: ref, instance: instance, audience: o.audience, serial: o.serial, expires: time.Now().Add(o.valid), grace: o.grace}
}

// removal signs that an instance is to be stopped. Which bundle it runs, the
// platform says where --bundle does not.
func (o *deployOptions) removal(ctx context.Context, p *platformClient, key *bundle.PrivateKey) ([]byte, error) {
	if o.bundle != "" {
		ref, err := parseRef(o.bundle, o.plain)
		if err != nil {
			return nil, err
		}
		return o.order(key, ref, o.remove).removal()
	}
	list, err := listAgents(ctx, p)
	if err != nil {
		return nil, err
	}
	for _, a := range list {
		if a.Instance == o.remove {
			d, err := bundle.ParseDigest(a.Bundle)
			if err != nil {
				return nil, fmt.Errorf("agent %s: %w", plain(a.Instance), err)
			}
			return o.order(key, bundleRef{digest: d}, o.remove).removal()
		}
	}
	return nil, exit(exitMismatch, fmt.Errorf("the platform shows you no agent %s; next: list those that you may see with `omega agents`, or name its bundle with --bundle", o.remove))
}
