package measure

import (
	"fmt"
	"testing"

	"omega/internal/vectors"
)

// The signatures as CPUID Fn0000_0001 EAX shows them in a guest.
var signatures = map[string]uint32{
	"EPYC": 0x00800f12, "EPYC-v1": 0x00800f12, "EPYC-v2": 0x00800f12, "EPYC-v3": 0x00800f12, "EPYC-v4": 0x00800f12, "EPYC-v5": 0x00800f12, "EPYC-IBPB": 0x00800f12,
	"EPYC-Rome": 0x00830f10, "EPYC-Rome-v1": 0x00830f10, "EPYC-Rome-v2": 0x00830f10, "EPYC-Rome-v3": 0x00830f10, "EPYC-Rome-v4": 0x00830f10, "EPYC-Rome-v5": 0x00830f10,
	"EPYC-Milan": 0x00a00f11, "EPYC-Milan-v1": 0x00a00f11, "EPYC-Milan-v2": 0x00a00f11, "EPYC-Milan-v3": 0x00a00f11,
	"EPYC-Genoa": 0x00a10f10, "EPYC-Genoa-v1": 0x00a10f10, "EPYC-Genoa-v2": 0x00a10f10,
	"EPYC-Turin": 0x00b00f00, "EPYC-Turin-v1": 0x00b00f00,
}

func TestEveryEPYCOfQEMUHasItsSignature(t *testing.T) {
	names := 0
	for _, m := range cpuModels {
		names += 1 + m.versions
	}
	if names != len(signatures) {
		t.Errorf("%d names are known, %d are expected here", names, len(signatures))
	}
	for name, want := range signatures {
		if got, err := CPUSignature(name); err != nil || got != want {
			t.Errorf("%s: signature %#08x, %v; want %#08x", name, got, err, want)
		}
	}
}

func TestAnUnknownCPUHasNoSignatureAndNoDigest(t *testing.T) {
	ovmf := vectors.Read(t, "launch-digest", "ovmf_AmdSev_suffix.bin")
	for _, name := range []string{
		"", "epyc-milan", "EPYC-Milan ", "EPYC-Milan-v0", "EPYC-Milan-v4", "EPYC-Milan-v01", "EPYC-Turin-v9", "EPYC-Venice", "EPYC-IBPB-v1", "Opteron_G5", "host", "max", "Skylake-Server",
	} {
		if got, err := CPUSignature(name); err == nil || got != 0 {
			t.Errorf("%q has signature %#x", name, got)
		}
		if got, err := LaunchDigest(Input{OVMF: ovmf, VCPUs: 1, CPU: name, VMM: QEMU, GuestFeatures: 1}); err == nil || got != [48]byte{} {
			t.Errorf("%q has a digest", name)
		}
	}
}

func TestLaunchDigestsOfManyMachinesAreThoseOfEach(t *testing.T) {
	in := Input{OVMF: vectors.Read(t, "launch-digest", "ovmf_AmdSev_suffix.bin"), CPU: "EPYC-Turin", GuestFeatures: 0x21, Kernel: Bytes([]byte("kernel"))}
	for _, vmm := range []VMM{QEMU, EC2, GCE} {
		in.VMM, in.VCPUs = vmm, 64
		all, err := LaunchDigests(in)
		if err != nil || len(all) != 64 {
			t.Fatalf("%d digests, %v", len(all), err)
		}
		seen := map[string]bool{}
		for _, n := range []int{1, 2, 63, 64} {
			in.VCPUs = n
			one, err := LaunchDigest(in)
			if err != nil || one != all[n-1] {
				t.Errorf("%s, %d vCPUs: %x, %v; among many %x", vmm, n, one, err, all[n-1])
			}
			seen[fmt.Sprintf("%x", one)] = true
		}
		if len(seen) != 4 {
			t.Errorf("%s: vCPU counts do not change the digest", vmm)
		}
	}
	in.VCPUs = 0
	if _, err := LaunchDigests(in); err == nil {
		t.Error("a machine without a vCPU has a digest")
	}
}
