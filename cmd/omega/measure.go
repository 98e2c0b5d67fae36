package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"omega/attest"
	"omega/attest/measure"
	"omega/attest/snp"
	"omega/images"
)

// measureUsage is the one line of `omega measure`'s arguments.
const measureUsage = "--ovmf F [--kernel F [--initrd F] [--cmdline S]] --vcpus N --vcpu-type EPYC-Milan --vmm qemu|ec2|gce --guest-features 0x1 [--igvm OUT] | --diff A B [--in MANIFEST] | " + pcrUsage

// maxPart bounds a kernel or an initrd.
const maxPart = 4 << 30

// runMeasure is `omega measure`: the launch digest that a machine would report.
func runMeasure(_ context.Context, e *env, args []string) error {
	if len(args) > 0 && args[0] == "pcr" {
		return runMeasurePCR(e, args[1:])
	}
	fs := e.flags("measure")
	ovmf := fs.String("ovmf", "", "the firmware image")
	kernel := fs.String("kernel", "", "the kernel, or sha256:HEX of it")
	initrd := fs.String("initrd", "", "the initrd, or sha256:HEX of it")
	cmdline := fs.String("cmdline", "", "the kernel's command line")
	vcpus := fs.Int("vcpus", 1, "number of vCPUs")
	cpu := fs.String("vcpu-type", "", "QEMU's name of the CPU model, such as EPYC-Milan")
	vmm := fs.String("vmm", "qemu", "qemu, ec2 or gce")
	features := fs.String("guest-features", "0x1", "SEV_FEATURES of the VMSA")
	igvm := fs.String("igvm", "", "experimental: write the machine as an IGVM `file` too, which has this launch digest")
	asJSON := fs.Bool("json", false, "print JSON")
	diff := fs.Bool("diff", false, "say why two manifests (or two launch digests that one manifest has) differ")
	in := fs.String("in", "", "the `manifest` that the launch digests of --diff are looked up in")
	rest, err := parseMixed(fs, args)
	if err != nil {
		return err
	}
	if *diff && len(rest) == 2 {
		return e.diffMeasured(rest[0], rest[1], *in, *asJSON)
	}
	if len(rest) != 0 || *diff || *in != "" || *ovmf == "" {
		return fmt.Errorf("measure: want %s", measureUsage)
	}
	input := measure.Input{VCPUs: *vcpus, CPU: *cpu, VMM: measure.VMM(strings.ToLower(*vmm))}
	if input.GuestFeatures, err = strconv.ParseUint(*features, 0, 64); err != nil {
		return fmt.Errorf("--guest-features: %w", err)
	}
	if err := readParts(&input, *ovmf, *kernel, *initrd); err != nil {
		return err
	}
	if *cmdline != "" {
		input.Cmdline = measure.Cmdline(*cmdline)
	}
	digest, err := measure.LaunchDigest(input)
	if err != nil {
		return err
	}
	if *igvm != "" {
		if err := writeIGVM(*igvm, input); err != nil {
			return err
		}
	}
	if *asJSON {
		return json.NewEncoder(e.Stdout).Encode(map[string]any{"launch_digest": attest.Bytes48(digest)})
	}
	fmt.Fprintf(e.Stdout, "%x\n", digest)
	return nil
}

// writeIGVM writes the machine as an IGVM file.
func writeIGVM(path string, in measure.Input) error {
	b, err := measure.IGVM(in, uint64(snp.PolicyStrict))
	if err != nil {
		return err
	}
	return images.WriteFile(path, b)
}

func readParts(in *measure.Input, ovmf, kernel, initrd string) (err error) {
	if in.OVMF, err = readBounded(ovmf, 64<<20); err != nil {
		return err
	}
	if in.Kernel, err = readPart(kernel); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	if in.Initrd, err = readPart(initrd); err != nil {
		return fmt.Errorf("initrd: %w", err)
	}
	return nil
}

// readPart reads a file, or takes its digest where only that is at hand.
func readPart(name string) (measure.Part, error) {
	if name == "" {
		return measure.Part{}, nil
	}
	if text, ok := strings.CutPrefix(name, "sha256:"); ok {
		sum, err := hex.DecodeString(text)
		if err != nil || len(sum) != 32 {
			return measure.Part{}, errors.New("want sha256: and 64 hex digits")
		}
		return measure.Digest([32]byte(sum)), nil
	}
	b, err := readBounded(name, maxPart)
	if err != nil {
		return measure.Part{}, err
	}
	return measure.Bytes(b), nil
}
