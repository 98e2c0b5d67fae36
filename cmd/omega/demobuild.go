package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
)

// build makes the demo's image for the demo's policy, and the programs that
// will meet it.
func (d *demo) build(ctx context.Context) error {
	if err := ensureTools(ctx, d.e, hostPackages, d.yes); err != nil {
		return err
	}
	policy, err := d.writePolicy()
	if err != nil {
		return err
	}
	d.sayf("policy: %s, with keys made on this machine", policy)
	d.artifacts, err = build(ctx, d.e, buildOptions{Profile: "cpu", Policy: policy, Out: filepath.Join(d.source, "build", "demo")})
	if err != nil {
		return err
	}
	d.report.Sizes = d.artifacts.Sizes
	for _, name := range []string{"kernel", "initrd", "cmdline", "ovmf"} {
		digest := d.artifacts.Digests[name]
		d.sayf("%-8s %10d bytes  sha256 %x", name, d.artifacts.Sizes[name], digest)
	}
	if err := d.expectLaunchDigest(); err != nil {
		return err
	}
	return buildExamples(ctx, d.e, d.source, d.programs())
}

// programs is the folder of the example programs.
func (d *demo) programs() string { return filepath.Join(d.dir, "programs") }

// writePolicy puts the demo's policy beside its keys, and the providers' trust
// roots beside the policy.
func (d *demo) writePolicy() (string, error) {
	text, err := os.ReadFile(filepath.Join(d.source, "examples", "demo", "policy.yaml"))
	if err != nil {
		return "", err
	}
	roots, err := os.ReadFile(d.keys.path("roots.pem"))
	if err != nil {
		return "", err
	}
	dir := filepath.Dir(d.keys.dir)
	if err := os.WriteFile(filepath.Join(dir, "roots.pem"), roots, 0o644); err != nil {
		return "", err
	}
	policy := filepath.Join(dir, "policy.yaml")
	return policy, os.WriteFile(policy, text, 0o644)
}

// expectLaunchDigest says what SNP hardware would measure for the machine that
// the demo boots.
func (d *demo) expectLaunchDigest() error {
	launches, err := launchDigests(d.artifacts)
	if err != nil {
		return err
	}
	for _, l := range launches {
		if l.CPU == defaultCPU && l.VCPUs == defaultVCPUs {
			d.report.LaunchDigest = hex.EncodeToString(l.Digest[:])
			d.sayf("launch digest of %d vCPUs of %s: %s", l.VCPUs, l.CPU, d.report.LaunchDigest)
			return nil
		}
	}
	return fmt.Errorf("no launch digest for %d vCPUs of %s", defaultVCPUs, defaultCPU)
}
