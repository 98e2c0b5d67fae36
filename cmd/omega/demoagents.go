package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"omega/attest"
)

// agents checks what became of the three agents, and what reached the providers.
func (d *demo) agents(ctx context.Context) error {
	refused, err := d.hear(ctx, "agent impostor refused")
	if err != nil {
		return err
	}
	exited, err := d.hear(ctx, "agent planner exited")
	if err != nil {
		return err
	}
	if code := strings.Fields(exited.words)[3]; code != "0" {
		return errors.Join(fmt.Errorf("agent one: %s", exited.words), d.explain(ctx, "planner"))
	}
	if started := d.console.said("agent impostor started"); len(started) > 0 {
		return fmt.Errorf("agent three was started although it was refused: %s", refused.words)
	}
	// Agent one reads the brief and the summary, agent two the brief; they run side by side.
	want := []string{"/public/brief.txt", "/public/brief.txt", "/public/staff-summary.txt"}
	if err := d.reached(ctx, "files", want, "/private/"); err != nil {
		return errors.Join(err, d.explain(ctx, "reporter"))
	}
	if err := d.reached(ctx, "notes", []string{"312000 EUR"}, "Okafor"); err != nil {
		return err
	}
	return d.listed(ctx)
}

// explain shows what the log has of an agent, its last words included.
func (d *demo) explain(ctx context.Context, instance string) error {
	log := filepath.Join(d.run, "log-explain")
	if err := os.RemoveAll(log); err != nil {
		return err
	}
	if _, err := d.verb(ctx, "log", "export", d.url(), "--out", log); err != nil {
		return err
	}
	out, err := d.verb(ctx, "log", "show", log, "--key", d.keys.path("auditor.pem"), "--agent", instance, "--json")
	d.sayf("%s", out)
	return err
}

// reachLimit bounds the wait for a call that an agent is still about to make.
const reachLimit = time.Minute

// reached waits for as many calls in a provider's own record as are wanted, and
// checks it: each of want once, nothing more, and never what must not arrive.
func (d *demo) reached(ctx context.Context, provider string, want []string, never string) error {
	ctx, cancel := context.WithTimeout(ctx, reachLimit)
	defer cancel()
	lines, err := d.recorded(provider)
	for err == nil && len(lines) < len(want) && sleepFor(ctx, 100*time.Millisecond) {
		lines, err = d.recorded(provider)
	}
	if err != nil {
		return err
	}
	for _, line := range lines {
		d.sayf("what reached %s: %s", provider, strings.TrimSpace(line))
	}
	if strings.Contains(strings.Join(lines, ""), never) {
		return fmt.Errorf("%s received %q, which the policy forbids", provider, never)
	}
	if len(lines) != len(want) {
		return fmt.Errorf("%s received %d calls, not %d", provider, len(lines), len(want))
	}
	for _, w := range want {
		i := slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, w) })
		if i < 0 {
			return fmt.Errorf("no call at %s has %q, or not so many", provider, w)
		}
		lines = slices.Delete(lines, i, i+1)
	}
	return nil
}

// recorded are the lines of a provider's record so far.
func (d *demo) recorded(provider string) ([]string, error) {
	record, err := os.ReadFile(d.world.record(provider))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return slices.Collect(strings.Lines(string(record))), nil
}

// sleepFor waits, and reports whether it was not interrupted.
func sleepFor(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// A principalOf is somebody who must vouch for a component of that kind.
type principalOf struct{ kind, name, role, principal string }

// principals are everybody who stands behind an agent of the demo: its author
// and the owner of the policy for the bundle, the model's owner, each tool's owner.
func (a demoAgent) principals() []principalOf {
	all := []principalOf{
		{"manifest", a.name, "author", "workshop"}, {"image", a.name, "author", "workshop"},
		{"manifest", a.name, "operator", "operator"}, {"image", a.name, "operator", "operator"},
		{"model", a.weights(), "model", "foundry"},
	}
	for _, server := range a.servers {
		for _, p := range demoProviders {
			if p.name == server {
				all = append(all, principalOf{"tool-descriptors", server, "tool", p.owner})
			}
		}
	}
	return all
}

// vouchedFor checks that verified evidence shows the two admitted agents, each
// with every principal, and the third one not at all.
func vouchedFor(agents []attest.Agent) error {
	var admitted []demoAgent
	for _, a := range demoAgents {
		if a.author == "author" {
			admitted = append(admitted, a)
		}
	}
	if len(agents) != len(admitted) {
		return fmt.Errorf("the evidence shows %d agents, not %d", len(agents), len(admitted))
	}
	for i, want := range admitted {
		got := &agents[i]
		if got.Instance != want.instance || got.Name != want.name {
			return fmt.Errorf("agent %d in the evidence is %s (%s), not %s (%s)", i, got.Instance, got.Name, want.instance, want.name)
		}
		for _, who := range want.principals() {
			if !slices.ContainsFunc(got.Components, who.signed) {
				return fmt.Errorf("nothing in the evidence of %s is %s %s signed by %s as %s", want.instance, who.kind, who.name, who.principal, who.role)
			}
		}
		for _, kind := range []string{attest.KindPolicy, attest.KindSandbox} {
			if !slices.ContainsFunc(got.Components, func(c attest.Component) bool { return c.Kind == kind && c.Measured() }) {
				return fmt.Errorf("the evidence of %s shows no %s of the measured image", want.instance, kind)
			}
		}
	}
	return nil
}

func (p principalOf) signed(c attest.Component) bool {
	return c.Kind == p.kind && c.Name == p.name && c.Role == p.role && c.Principal == p.principal && len(c.Signatures) > 0
}
