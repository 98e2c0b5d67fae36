package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"omega/attest/measure"
	"omega/images"
)

// The machines that the manifest has launch digests for.
const (
	maxBuildVCPUs      = 64
	buildGuestFeatures = 1 // SNPActive alone
	// The machine that `omega boot` starts, whose digest build prints.
	defaultVCPUs = 2
	defaultCPU   = "EPYC-Milan"
)

// buildCPUs are QEMU's models of CPUs that have SNP.
var buildCPUs = []string{"EPYC-Milan", "EPYC-Genoa", "EPYC-Turin"}

// launchDigests computes the launch digest of every machine in the manifest.
func launchDigests(a *images.Artifacts) ([]images.Launch, error) {
	ovmf, err := os.ReadFile(a.OVMF)
	if err != nil {
		return nil, fmt.Errorf("launch digest: %w", err)
	}
	var list []images.Launch
	for _, cpu := range buildCPUs {
		digests, err := measure.LaunchDigests(measure.Input{
			OVMF: ovmf, Kernel: measure.Digest(a.Digests["kernel"]), Initrd: measure.Digest(a.Digests["initrd"]),
			Cmdline: measure.Cmdline(a.Arguments), VCPUs: maxBuildVCPUs, CPU: cpu, VMM: measure.QEMU, GuestFeatures: buildGuestFeatures,
		})
		if err != nil {
			return nil, fmt.Errorf("launch digest: %w", err)
		}
		for i, d := range digests {
			list = append(list, images.Launch{VCPUs: i + 1, CPU: cpu, GuestFeatures: buildGuestFeatures, Digest: d})
		}
	}
	return list, nil
}

// predictedPCRs are what a TPM will hold of the image as a UKI, for each way to
// boot it.
func predictedPCRs(a *images.Artifacts) ([]images.PCR, error) {
	uki, err := os.ReadFile(a.UKI)
	if err != nil {
		return nil, fmt.Errorf("PCRs: %w", err)
	}
	var list []images.PCR
	for _, boot := range []measure.Boot{measure.DiskBoot, measure.DirectBoot} {
		for _, bank := range pcrBanks {
			p, err := measure.PredictPCRs(uki, boot, bank.hash)
			if errors.Is(err, measure.ErrKernelHandedOver) {
				continue
			}
			if err != nil {
				return nil, err
			}
			for _, pcr := range measure.PredictedPCRs {
				list = append(list, images.PCR{Boot: string(boot), Bank: bank.name, PCR: pcr, Value: hex.EncodeToString(p.Value(pcr))})
			}
		}
	}
	return list, nil
}

// linkedModule is the module called path that this program was linked with.
func linkedModule(path string) *debug.Module {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return m
		}
	}
	return nil
}
