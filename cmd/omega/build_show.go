package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"

	"omega/images"
)

// A builtFile is an artifact as `omega build` prints it.
type builtFile struct {
	Name   string `json:"name"`
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// A buildResult is what `omega build --json` prints.
type buildResult struct {
	Profile      string       `json:"profile"`
	Artifacts    []builtFile  `json:"artifacts"`
	Manifest     string       `json:"manifest"`
	Payload      int64        `json:"payload"` // bytes of the initramfs before compression
	GuestCode    images.Code  `json:"guest_code"`
	LaunchDigest builtMachine `json:"launch_digest"`
}

// A builtMachine is the machine that `omega boot` starts.
type builtMachine struct {
	CPU    string `json:"cpu"`
	VCPUs  int    `json:"vcpus"`
	Digest string `json:"digest"`
}

func (e *env) showBuild(a *images.Artifacts, asJSON bool) error {
	out := buildResult{Profile: a.Profile, Manifest: a.Manifest, Payload: a.Payload, LaunchDigest: builtMachine{CPU: defaultCPU, VCPUs: defaultVCPUs}}
	launches, err := launchDigests(a)
	if err != nil {
		return err
	}
	for _, l := range launches {
		if l.CPU == defaultCPU && l.VCPUs == defaultVCPUs {
			out.LaunchDigest.Digest = hex.EncodeToString(l.Digest[:])
		}
	}
	source, err := sourceRoot()
	if err != nil {
		return err
	}
	if out.GuestCode, err = a.Inputs.Code(source); err != nil {
		return err
	}
	for _, f := range []struct{ name, path string }{
		{"kernel", a.Kernel}, {"initrd", a.Initrd}, {"cmdline", a.Cmdline}, {"ovmf", a.OVMF}, {"uki", a.UKI},
		{"sbom.spdx", a.SPDX}, {"sbom.cyclonedx", a.CycloneDX}, {"notices", a.Notices},
	} {
		d := a.Digests[f.name]
		out.Artifacts = append(out.Artifacts, builtFile{f.name, f.path, a.Sizes[f.name], hex.EncodeToString(d[:])})
	}
	if asJSON {
		return json.NewEncoder(e.Stdout).Encode(out)
	}
	for _, f := range out.Artifacts {
		fmt.Fprintf(e.Stdout, "%-14s %9d bytes  sha256 %s  %s\n", f.Name, f.Size, f.SHA256, f.Path)
	}
	fmt.Fprintf(e.Stdout, "manifest %s\n", out.Manifest)
	fmt.Fprintf(e.Stdout, "payload %.1f MiB (kernel and initrd); %d lines of our own Go in it, in %d files\n",
		float64(a.Sizes["kernel"]+a.Sizes["initrd"])/(1<<20), out.GuestCode.Lines, out.GuestCode.Files)
	fmt.Fprintf(e.Stdout, "launch digest of %d vCPUs of %s: %s\n", defaultVCPUs, defaultCPU, out.LaunchDigest.Digest)
	return nil
}
