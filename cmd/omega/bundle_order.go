package main

import (
	"context"
	"fmt"
	"time"

	"omega/agentloader/bundle"
)

// An order is what the flags say of a deployment or removal.
type order struct {
	key                *bundle.PrivateKey
	ref                bundleRef
	instance, audience string
	serial             uint64
	expires            time.Time
	grace              time.Duration
}

// runBundleOrder is `omega bundle deployment` and `removal`: it signs what make
// turns the flags into, and prints it.
func runBundleOrder(what string, make func(order) ([]byte, error)) func(context.Context, *env, []string) error {
	return func(_ context.Context, e *env, args []string) error {
		var o order
		fs := e.flags("bundle")
		file := fs.String("key", "", "a deployer's private key (ECDSA P-256, PEM)")
		fs.StringVar(&o.instance, "instance", "", "name of the running agent")
		fs.StringVar(&o.audience, "audience", "", "the policy's platform, or a boot id")
		fs.Uint64Var(&o.serial, "serial", 0, "a number that this key never used before")
		valid := fs.Duration("for", 24*time.Hour, "how long the statement can be accepted")
		if what == "removal" {
			fs.DurationVar(&o.grace, "grace", 10*time.Second, "how long the agent may take to end before it is killed")
		}
		var err error
		if o.ref, err = oneRef(fs, args); err != nil {
			return err
		}
		if err := need(fs, "key", "instance", "audience"); err != nil {
			return err
		}
		if o.serial == 0 {
			return fmt.Errorf("omega bundle %s: --serial is missing", what)
		}
		if o.key, err = readKey(*file); err != nil {
			return err
		}
		o.expires = time.Now().Add(*valid)
		raw, err := make(o)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(e.Stdout, "%s\n", raw)
		return err
	}
}

// deployment signs that the bundle is to be run.
func (o order) deployment() ([]byte, error) {
	return bundle.SignDeployment(o.key, bundle.Deployment{Bundle: o.ref.digest, Repository: o.ref.repo.Name(),
		Instance: o.instance, Audience: o.audience, Serial: o.serial, Expires: o.expires})
}

// removal signs that the instance, which runs the bundle, is to be stopped.
func (o order) removal() ([]byte, error) {
	return bundle.SignRemoval(o.key, bundle.Removal{Bundle: o.ref.digest, Instance: o.instance, Audience: o.audience,
		Serial: o.serial, Expires: o.expires, GraceSeconds: int(o.grace.Round(time.Second) / time.Second)})
}
