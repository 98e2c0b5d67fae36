// Package measure computes the launch digest that an SNP machine reports as
// MEASUREMENT, from the very bytes that are launched: OVMF, the hashes of
// kernel, initrd and command line, and the start state of every vCPU. It
// parses firmware that may be hostile, and does no I/O.
//
// The digest is right only where the VMM starts its vCPUs as it did when this
// package was written; the golden cases come from an independent tool.
package measure

import (
	"errors"
	"fmt"
)

// maxVCPUs is KVM's own bound (KVM_MAX_VCPUS).
const maxVCPUs = 4096

// featureSNP is SNPActive in SEV_FEATURES (AMD APM volume 2, table B-4).
const featureSNP = 1

// Input is all that the launch digest depends on.
type Input struct {
	OVMF []byte
	// Kernel, Initrd and Cmdline are booted directly and measured by their
	// hashes. Without a kernel nothing is booted directly.
	Kernel, Initrd, Cmdline Part
	VCPUs                   int
	// CPU is QEMU's name of the CPU model.
	CPU string
	VMM VMM
	// GuestFeatures is SEV_FEATURES of every VMSA.
	GuestFeatures uint64
}

// LaunchDigest is the MEASUREMENT of a machine launched from in.
func LaunchDigest(in Input) ([48]byte, error) {
	list, err := LaunchDigests(in)
	if err != nil {
		return [48]byte{}, err
	}
	return list[len(list)-1], nil
}

// LaunchDigests are the MEASUREMENTs of machines launched from in with 1, 2 and
// so on up to in.VCPUs vCPUs: each vCPU extends the digest of the machine
// without it.
func LaunchDigests(in Input) ([][48]byte, error) { return in.launch(&gctx{}) }

// launch adds every page of the machine to g.
func (in *Input) launch(g *gctx) ([][48]byte, error) {
	fw, err := parseFirmware(in.OVMF)
	if err != nil {
		return nil, err
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	signature, err := CPUSignature(in.CPU)
	if err != nil {
		return nil, err
	}
	start, err := startRegisters(in.VMM, signature)
	if err != nil {
		return nil, err
	}
	g.data(pageNormal, fw.base(), fw.image)
	if err := g.metadata(in, fw); err != nil {
		return nil, err
	}
	g.data(pageVMSA, vmsaGPA, vmsa(start, resetBSP, in.GuestFeatures))
	list := append(make([][48]byte, 0, in.VCPUs), g.digest)
	ap := vmsa(start, fw.resetAP, in.GuestFeatures)
	for range in.VCPUs - 1 {
		g.data(pageVMSA, vmsaGPA, ap)
		list = append(list, g.digest)
	}
	return list, nil
}

func (in *Input) check() error {
	switch {
	case in.VCPUs < 1 || in.VCPUs > maxVCPUs:
		return fmt.Errorf("%d vCPUs: want 1 to %d", in.VCPUs, maxVCPUs)
	case in.GuestFeatures&featureSNP == 0:
		return fmt.Errorf("guest features %#x: SNP is not active", in.GuestFeatures)
	case !in.Kernel.given && (in.Initrd.given || in.Cmdline.given):
		return errors.New("initrd or command line without a kernel")
	}
	return nil
}

// metadata extends with the sections of the firmware in their order. EC2 adds
// the CPUID page after all others.
func (g *gctx) metadata(in *Input, fw *firmware) error {
	if in.Kernel.given && !fw.has(sectionKernelHashes) {
		return errors.New("firmware does not measure kernel hashes")
	}
	var last []section
	for _, s := range fw.sections {
		switch s.kind {
		case sectionMemory:
			g.blank(memoryType(in.VMM), s.gpa, s.size)
		case sectionCAA:
			g.blank(pageZero, s.gpa, s.size)
		case sectionSecrets:
			g.blank(pageSecrets, s.gpa, s.size)
		case sectionCPUID:
			if in.VMM == EC2 {
				last = append(last, s)
				continue
			}
			g.blank(pageCPUID, s.gpa, s.size)
		case sectionKernelHashes:
			if err := g.kernelHashes(in, fw, s); err != nil {
				return err
			}
		}
	}
	for _, s := range last {
		g.blank(pageCPUID, s.gpa, s.size)
	}
	return nil
}

// memoryType is how the VMM adds the firmware's own memory: GCE leaves the
// clearing to the firmware.
func memoryType(v VMM) pageType {
	if v == GCE {
		return pageUnmeasured
	}
	return pageZero
}

func (g *gctx) kernelHashes(in *Input, fw *firmware, s section) error {
	if !in.Kernel.given {
		g.blank(pageZero, s.gpa, s.size)
		return nil
	}
	page, err := hashesPage(in, fw.hashTable)
	if err != nil {
		return err
	}
	g.data(pageNormal, s.gpa, page)
	return nil
}
