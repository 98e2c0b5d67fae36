package main

import (
	"fmt"

	"omega/agentloader"
	"omega/policy"
)

// kinds is what the policy says of how agents run, by their names.
type kinds struct {
	servers map[string]bool // they are MCP servers in a sandbox
	clean   map[string]bool // each session has a sandbox of its own
	engines map[string]bool // they are inference engines
}

func kindsOf(d *policy.Document) kinds {
	k := kinds{servers: map[string]bool{}, clean: map[string]bool{}, engines: map[string]bool{}}
	for _, m := range d.Models {
		if m.Engine != "" {
			k.engines[m.Engine] = true
		}
	}
	for _, s := range d.Servers {
		if s.Bundle != "" {
			k.servers[s.Bundle] = true
		}
	}
	for _, a := range d.Agents {
		k.clean[a.Name] = a.Sessions == "clean"
	}
	return k
}

// fits holds what a bundle says it is against what the policy says.
func (k kinds) fits(a *agentloader.Admitted) error {
	if err := k.fitsEngine(a); err != nil {
		return err
	}
	switch speaks := a.Manifest.Server != nil; {
	case speaks && !k.servers[a.Name]:
		return fmt.Errorf("the bundle is an MCP server, and the policy names no server with bundle: %s", a.Name)
	case !speaks && k.servers[a.Name]:
		return fmt.Errorf("the policy takes %s for an MCP server, and the bundle's manifest has no server", a.Name)
	case k.clean[a.Name] && a.Manifest.Serve == nil:
		return fmt.Errorf("the policy gives each session of %s a sandbox, and the bundle takes no requests: its manifest has no serve", a.Name)
	}
	return nil
}

// fitsEngine is fits for inference engines.
func (k kinds) fitsEngine(a *agentloader.Admitted) error {
	switch is := a.Manifest.Engine != nil; {
	case is && !k.engines[a.Name]:
		return fmt.Errorf("the bundle is an inference engine, and the policy names no model with engine: %s", a.Name)
	case !is && k.engines[a.Name]:
		return fmt.Errorf("the policy takes %s for an inference engine, and the bundle's manifest has no engine", a.Name)
	case is && k.clean[a.Name]:
		return fmt.Errorf("%s is an engine, and has no sessions", a.Name)
	}
	return nil
}
