package main

import (
	"context"
	"fmt"
	"os"

	"omega/policy/compile"
)

const devUsage = "[--policy F] [--roots F] [--config F] [--port N]"

// runDev is `omega dev`: a platform without a machine around it.
func runDev(ctx context.Context, e *env, args []string) error {
	fs := e.flags("dev")
	policy := fs.String("policy", "", "policy in YAML (default: one that permits nothing)")
	roots := fs.String("roots", "", "trust roots of the gateway in PEM (default: roots.pem beside the policy, else the public ones)")
	config := fs.String("config", "", "launch config (JSON)")
	port := fs.Int("port", defaultPort, "port on 127.0.0.1 that the platform listens on")
	if err := fs.Parse(args); err != nil {
		return err
	}
	o := devOptions{Port: *port, OnLine: func(l string) { fmt.Fprintln(e.Stdout, l) }}
	var err error
	if o.Policy, err = compile.File(*policy); err != nil {
		return err
	}
	if o.Roots, err = (buildOptions{Policy: *policy, Roots: *roots}).trustRoots(); err != nil {
		return err
	}
	if *config != "" {
		if o.Config, err = os.ReadFile(*config); err != nil {
			return fmt.Errorf("launch config: %w", err)
		}
	}
	p, err := startDev(ctx, e, o)
	if err != nil {
		return err
	}
	e.sayf("https://127.0.0.1:%d; Ctrl-C ends it. Nothing here is attested: these are processes of this machine", p.Port)
	select {
	case <-ctx.Done():
	case <-p.ended:
	}
	return p.Stop()
}
