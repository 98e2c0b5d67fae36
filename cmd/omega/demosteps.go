package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"omega/attest"
	"omega/attest/verifier"
	"omega/policy/provenance"
)

// bootLimit bounds the wait for anything that the guest will say.
const bootLimit = 3 * time.Minute

// boot starts the machine and waits for PID 1.
func (d *demo) boot(ctx context.Context) error {
	d.console = newTranscript(func(s saying) { d.sayf("guest: %s", s.words) })
	machine, err := startVM(ctx, d.e, bootOptions{Artifacts: d.artifacts.Dir, Config: d.config, OnLine: d.console.hear})
	if err != nil {
		return err
	}
	d.machine = machine
	d.sayf("evidence and log will be at %s", d.url())
	line, err := d.hear(ctx, "pid1 ")
	if err != nil {
		return err
	}
	d.report.Boot.PID1.Guest, err = line.guestTime()
	return err
}

// hear waits for the guest to say something.
func (d *demo) hear(ctx context.Context, prefix string) (saying, error) {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	return d.console.wait(ctx, d.machine.Done(), prefix)
}

// reach waits for one of the console's time marks.
func (d *demo) reach(ctx context.Context, mark string) (bootTime, error) {
	line, err := d.hear(ctx, mark+" ")
	if err != nil {
		return bootTime{}, err
	}
	ms, err := line.guestTime()
	return bootTime{Guest: ms, Wall: line.at.Sub(d.machine.Began).Milliseconds()}, err
}

// phases waits until evidence is served and every deployment is settled.
func (d *demo) phases(ctx context.Context) error {
	var err error
	if d.report.Boot.Serving, err = d.reach(ctx, "serving"); err != nil {
		return err
	}
	if d.report.Boot.Ready, err = d.reach(ctx, "ready"); err != nil {
		return err
	}
	// The guest could not print this line before it had a console.
	boot := &d.report.Boot
	boot.PID1.Wall = boot.PID1.Guest + boot.Serving.Wall - boot.Serving.Guest
	return nil
}

// verify plays the relying party: first as strict as the verifier is by
// default, then, where the PSP was emulated, with its root allowed.
func (d *demo) verify(ctx context.Context) error {
	page := filepath.Join(d.run, "verify.html")
	want := attest.VerdictVerified
	if d.machine.Root != "" {
		want = attest.VerdictEmulated
		_, err := d.verb(ctx, slices.Concat([]string{"verify", "--json"}, d.release(), []string{d.url()})...)
		if !errors.Is(err, verifier.ErrEmulated) || exitCode(err) != exitSignature {
			return fmt.Errorf("the strict verifier ended with %d (%v): an emulated PSP must not pass for AMD's", exitCode(err), err)
		}
		d.sayf("exit code %d, as it must be: that root is not AMD's", exitSignature)
	}
	out, err := d.verb(ctx, d.verifying("verify", "--json", "--html", page)...)
	if err != nil {
		return fmt.Errorf("the verifier: %w", err)
	}
	var result struct {
		Verdict  string           `json:"verdict"`
		Checks   []attest.Check   `json:"checks"`
		Evidence *attest.Evidence `json:"evidence"`
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return fmt.Errorf("the verifier's answer: %w", err)
	}
	words := &indenter{w: d.e.Stderr, prefix: "     "}
	printChecks(words, result.Checks)
	for i := range result.Evidence.Agents {
		printAgent(words, &result.Evidence.Agents[i])
	}
	d.report.Verdict = result.Verdict
	d.sayf("verdict: %s; as a page: %s", result.Verdict, page)
	if result.Verdict != want {
		return fmt.Errorf("verdict %q, not %q", result.Verdict, want)
	}
	return vouchedFor(result.Evidence.Agents)
}

// log plays the auditor, and then somebody who tampers with a copy.
func (d *demo) log(ctx context.Context) error {
	log, key := filepath.Join(d.run, "log"), d.keys.path("auditor.pem")
	if _, err := d.verb(ctx, "log", "export", d.url(), "--out", log); err != nil {
		return err
	}
	out, err := d.verb(ctx, "log", "verify", log, "--key", key, "--json")
	if err != nil {
		return err
	}
	var summary struct {
		Entries uint64 `json:"entries"`
	}
	if err := json.Unmarshal(out, &summary); err != nil {
		return fmt.Errorf("the log's summary: %w", err)
	}
	d.report.LogEntries = summary.Entries
	if out, err = d.verb(ctx, "log", "show", log, "--key", key); err != nil {
		return err
	}
	for line := range bytes.Lines(out) {
		d.sayf("%s", bytes.TrimRight(line, "\n"))
	}
	for _, kind := range []string{"removal", "reading"} {
		if !bytes.Contains(out, []byte(kind)) {
			return fmt.Errorf("the log has no %s of agent two", kind)
		}
	}
	return d.tamper(ctx, log, key)
}

// tamper flips one bit in one byte of a copy of the log.
func (d *demo) tamper(ctx context.Context, log, key string) error {
	forged := filepath.Join(d.run, "log-tampered")
	if err := os.CopyFS(forged, os.DirFS(log)); err != nil {
		return fmt.Errorf("copying the log: %w", err)
	}
	var target string
	err := filepath.WalkDir(filepath.Join(forged, "tile", "entries"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && target == "" {
			target = path
		}
		return err
	})
	if err != nil {
		return err
	}
	tile, err := os.ReadFile(target)
	if err != nil {
		return err
	}
	at := len(tile) / 2
	tile[at] ^= 1
	if err := os.WriteFile(target, tile, 0o600); err != nil {
		return err
	}
	d.sayf("one bit of byte %d of %d in %s is flipped now", at, len(tile), target)
	if _, err := d.verb(ctx, "log", "verify", forged, "--key", key); !errors.Is(err, provenance.ErrTampered) || exitCode(err) != exitSignature {
		return fmt.Errorf("the tampered log ended with %d and %w", exitCode(err), err)
	}
	d.sayf("exit code %d, as it must be", exitSignature)
	return nil
}

// powerOff ends the machine in an orderly way.
func (d *demo) powerOff(ctx context.Context) error {
	machine := d.machine
	d.machine = nil
	if err := machine.Stop(ctx); err != nil {
		return err
	}
	reason, _ := machine.PoweredOff()
	d.sayf("guest: poweroff: %s", reason)
	if reason != askedByHost {
		return fmt.Errorf("the guest powered off for another reason than ours: %q", reason)
	}
	return nil
}

// release are the flags that name the release which the platform is held against.
func (d *demo) release() []string {
	args := []string{"--manifest", d.artifacts.Manifest}
	if !builtHere(d.artifacts.Manifest) {
		args = append(args, "--manifest-unsigned")
	}
	return args
}

// verifying is the command line of a verb that verifies the platform.
func (d *demo) verifying(args ...string) []string {
	args = append(args, d.release()...)
	if d.machine.Root != "" {
		args = append(args, "--allow-emulated", d.machine.Root)
	}
	return append(args, d.url())
}

// url is where the platform answers.
func (d *demo) url() string { return fmt.Sprintf("https://127.0.0.1:%d", d.machine.Port) }
