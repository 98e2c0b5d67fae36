package measure

import (
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"omega/internal/pe"
)

// Boot is how firmware comes to start a UKI.
type Boot string

// The ways to boot that a prediction exists for.
const (
	DiskBoot   Boot = "disk"   // from EFI/BOOT/BOOTX64.EFI of a disk
	DirectBoot Boot = "direct" // handed over by the VMM, as QEMU's -kernel does
)

// PredictedPCRs are the PCRs that a UKI decides, in the order of a prediction.
var PredictedPCRs = []int{4, 9, 11, 12}

// A PCREvent is one extension of one PCR.
type PCREvent struct {
	PCR    int
	What   string
	Digest []byte
}

// A PCRPrediction is what a TPM holds once the kernel runs, in one bank.
type PCRPrediction struct {
	Boot   Boot
	Bank   crypto.Hash
	Stub   string // the stub's own words: name and version; "" where there is none
	Events []PCREvent
}

// ErrKernelHandedOver reports a kernel with everything inside that is not booted
// from a disk.
var ErrKernelHandedOver = errors.New("PCRs: QEMU writes into the header of a kernel that it hands over; the launch digest covers that one")

// PredictPCRs says how a UKI extends PCR 4, 9, 11 and 12. The UKI's disk may
// hold nothing that the stub picks up beside it: PCR 12 is zero then, and a
// Verifier has to demand that. Secure Boot is off, and the firmware extends
// PCR 4 as OVMF does. A kernel with everything inside is taken as well, from a
// disk: it has no stub of systemd's, so it extends PCR 4 alone.
func PredictPCRs(uki []byte, boot Boot, bank crypto.Hash) (*PCRPrediction, error) {
	if boot != DiskBoot && boot != DirectBoot {
		return nil, fmt.Errorf("PCRs of boot %q are not known; want disk or direct", boot)
	}
	if bank != crypto.SHA256 && bank != crypto.SHA384 {
		return nil, errors.New("PCRs: want SHA-256 or SHA-384")
	}
	img, err := pe.Parse(uki)
	if err != nil {
		return nil, err
	}
	p := &PCRPrediction{Boot: boot, Bank: bank}
	if isKernel(uki) {
		if boot == DirectBoot {
			return nil, ErrKernelHandedOver
		}
		outer, err := authentihash(img, bank)
		if err != nil {
			return nil, err
		}
		p.begun(PCREvent{4, "kernel", outer})
		return p, nil
	}
	if p.Stub, err = stubOf(img); err != nil {
		return nil, err
	}
	for _, step := range []func(*pe.Image) error{p.programs, p.loadedByKernel, p.sections} {
		if err := step(img); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Value is what register pcr holds: zero, extended with every event of it
// (TPM 2.0 Library, Part 1, "Extend of a PCR").
func (p *PCRPrediction) Value(pcr int) []byte {
	v := make([]byte, p.Bank.Size())
	for _, e := range p.Events {
		if e.PCR == pcr {
			h := p.Bank.New()
			h.Write(v)
			h.Write(e.Digest)
			v = h.Sum(nil)
		}
	}
	return v
}

func (p *PCRPrediction) extend(pcr int, what string, data []byte) {
	h := p.Bank.New()
	h.Write(data)
	p.Events = append(p.Events, PCREvent{pcr, what, h.Sum(nil)})
}

// knownStubs are the versions whose steps are the ones below: they start the
// inner kernel through the firmware's LoadImage, which measures it as well.
// Others may not; a version is added once it was seen.
var knownStubs = []string{"257"}

// stubOf returns the stub's name and version (systemd-stub's section .sdmagic).
func stubOf(img *pe.Image) (string, error) {
	b, err := img.Content(".sdmagic")
	if err != nil {
		return "", err
	}
	text, ok := strings.CutPrefix(strings.TrimRight(string(b), "\x00"), "#### LoaderInfo: ")
	text, end := strings.CutSuffix(text, " ####")
	version, isStub := strings.CutPrefix(text, "systemd-stub ")
	if !ok || !end || !isStub {
		return "", errors.New("PCRs: not a UKI with systemd's stub")
	}
	for _, known := range knownStubs {
		if rest, ok := strings.CutPrefix(version, known); ok && (rest == "" || strings.ContainsAny(rest[:1], ".-~")) {
			return text, nil
		}
	}
	return "", fmt.Errorf("PCRs: what %q measures is not known", text)
}

// programs extends PCR 4 as firmware does: an action and the separator when it
// is ready to boot, each program when it loads it (TCG PC Client Platform
// Firmware Profile, sections 3.3.4.5 and 10.4.1). OVMF loads the VMM's kernel
// before it says that it is ready, and that of a disk behind.
func (p *PCRPrediction) programs(img *pe.Image) error {
	outer, err := authentihash(img, p.Bank)
	if err != nil {
		return err
	}
	linux, err := img.Content(".linux")
	if err != nil {
		return err
	}
	if linux == nil {
		return errors.New("PCRs: the UKI has no kernel")
	}
	inner, err := Authentihash(linux, p.Bank)
	if err != nil {
		return fmt.Errorf("kernel in the UKI: %w", err)
	}
	p.begun(PCREvent{4, "UKI", outer})
	p.Events = append(p.Events, PCREvent{4, "kernel", inner})
	return nil
}

// begun adds the events around the program that firmware itself starts.
func (p *PCRPrediction) begun(program PCREvent) {
	if p.Boot == DirectBoot {
		p.Events = append(p.Events, program)
	}
	p.extend(4, "action: boot option", []byte("Calling EFI Application from Boot Option"))
	p.extend(4, "separator", make([]byte, 4))
	if p.Boot == DiskBoot {
		p.Events = append(p.Events, program)
	}
}

// isKernel tells a bzImage from other EFI programs by its header
// (Documentation/arch/x86/boot.rst, field header).
func isKernel(b []byte) bool { return len(b) > 0x206 && string(b[0x202:0x206]) == "HdrS" }

// loadedByKernel extends PCR 9 as the kernel's own EFI stub does (Linux,
// drivers/firmware/efi/libstub/efi-stub-helper.c): its load options, then the
// initrd, each as it was handed over.
func (p *PCRPrediction) loadedByKernel(img *pe.Image) error {
	cmdline, err := img.Content(".cmdline")
	if err != nil {
		return err
	}
	if len(cmdline) > 0 {
		options, err := loadOptions(cmdline)
		if err != nil {
			return err
		}
		p.extend(9, "command line", options)
	}
	initrd, err := combinedInitrd(img)
	if err != nil {
		return err
	}
	if len(initrd) > 0 {
		p.extend(9, "initrd", initrd)
	}
	return nil
}

// loadOptions is the command line as the stub hands it on: UTF-16 with a zero
// at its end. A line that the stub would tidy up first is refused.
func loadOptions(cmdline []byte) ([]byte, error) {
	if strings.TrimSpace(string(cmdline)) != string(cmdline) {
		return nil, errors.New("PCRs: the command line begins or ends with a space")
	}
	var out []byte
	for _, c := range cmdline {
		if c < ' ' || c > '~' {
			return nil, fmt.Errorf("PCRs: byte %#x in the command line", c)
		}
		out = binary.LittleEndian.AppendUint16(out, uint16(c))
	}
	return append(out, 0, 0), nil
}

// measuredSections are what the stub measures of a UKI, in its order
// (systemd v257, src/fundamental/uki.h).
var measuredSections = []string{
	".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey",
}

// choosingSections let the stub choose by the machine it finds, which nobody
// can predict.
var choosingSections = []string{".profile", ".dtbauto", ".hwids", ".efifw"}

// sections extends PCR 11 with the name and the content of each section. PCR 12
// is left alone: nothing was handed to the stub from outside.
func (p *PCRPrediction) sections(img *pe.Image) error {
	for _, s := range img.Sections {
		if slices.Contains(choosingSections, s.Name) {
			return fmt.Errorf("PCRs: a UKI with section %q is not predictable", s.Name)
		}
	}
	for _, name := range measuredSections {
		b, err := img.Content(name)
		if err != nil {
			return err
		}
		if b != nil {
			p.extend(11, "name of "+name, append([]byte(name), 0))
			p.extend(11, "content of "+name, b)
		}
	}
	return nil
}
