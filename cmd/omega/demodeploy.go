package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"omega/attest"
)

// deploy has agent two started over the network, first by somebody whom the
// policy does not name. The deployment is not accepted a second time.
func (d *demo) deploy(ctx context.Context) error {
	_, err := d.verb(ctx, d.verifying("deploy", "--bundle", d.second.String(), "--instance", "reporter", "--key", d.keys.path("stranger.pem"))...)
	if exitCode(err) != exitMismatch {
		return fmt.Errorf("a stranger's deployment ended with %d: %w", exitCode(err), err)
	}
	d.sayf("exit code %d, as it must be: the policy names no such caller", exitMismatch)
	statement, err := d.verb(ctx, "bundle", "deployment", "--key", d.keys.path("deployer.pem"), "--instance", "reporter",
		"--audience", demoAudience, "--serial", fmt.Sprint(time.Now().UnixMilli()), "--for", "1h", d.second.String())
	if err != nil {
		return err
	}
	file := filepath.Join(d.run, "deployment.json")
	if err := os.WriteFile(file, statement, 0o600); err != nil {
		return err
	}
	handIn := append(d.verifying("deploy", "--caller-key", d.keys.path("deployer.pem")), file)
	out, err := d.verb(ctx, handIn...)
	if err != nil {
		return err
	}
	d.sayf("%s", bytes.TrimSpace(out))
	if _, err := d.verb(ctx, handIn...); exitCode(err) != exitMismatch || !strings.Contains(err.Error(), "was accepted before") {
		return fmt.Errorf("the same deployment once more ended with %d: %w", exitCode(err), err)
	}
	d.sayf("exit code %d, as it must be: a deployment is accepted once", exitMismatch)
	return nil
}

// remove has agent two stopped over the network.
func (d *demo) remove(ctx context.Context) error {
	out, err := d.verb(ctx, d.verifying("deploy", "--json", "--remove", "reporter", "--key", d.keys.path("deployer.pem"))...)
	if err != nil {
		return err
	}
	var done orderDone
	if err := json.Unmarshal(out, &done); err != nil {
		return fmt.Errorf("answer to a removal: %w", err)
	}
	d.sayf("%s: %s", done.Instance, done.State)
	if done.State != attest.AgentStopped {
		return fmt.Errorf("agent two is %s, not %s", done.State, attest.AgentStopped)
	}
	return nil
}

// listed checks what the platform tells of its agents: two of them, one that has
// ended and one that runs and has said what it found.
func (d *demo) listed(ctx context.Context) error {
	out, err := d.verb(ctx, d.verifying("agents")...)
	if err != nil {
		return err
	}
	states := map[string]string{} // by instance; the table's first three columns are instance, agent, state
	for i, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		d.sayf("%s", line)
		if fields := strings.Fields(line); i > 0 && len(fields) > 2 {
			states[fields[0]] = fields[2]
		}
	}
	if len(states) != 2 || states["planner"] != attest.AgentExited || states["reporter"] != attest.AgentRunning {
		return fmt.Errorf("agents as the platform lists them: %v", states)
	}
	return d.heardFrom(ctx, "reporter", "done: The brief asks for:")
}

// heardFrom waits until an agent's last lines have the words.
func (d *demo) heardFrom(ctx context.Context, instance, words string) error {
	ctx, cancel := context.WithTimeout(ctx, reachLimit)
	defer cancel()
	for {
		out, err := d.verb(ctx, d.verifying("agents", "--output", instance, "--caller-key", d.keys.path("deployer.pem"))...)
		if err != nil {
			return err
		}
		if strings.Contains(string(out), words) {
			for line := range bytes.Lines(out) {
				d.sayf("%s wrote: %s", instance, bytes.TrimSpace(line))
			}
			return nil
		}
		if !sleepFor(ctx, time.Second) {
			return errors.New("agent two never said what it found")
		}
	}
}
