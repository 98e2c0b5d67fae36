package images

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"omega/internal/cache"
	"omega/internal/pe"
)

// stubMember is the EFI program inside its package that a UKI begins with.
const stubMember = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"

// osRelease is what boot loaders show of the image.
const osRelease = "ID=omega\nNAME=Omega\n"

// maxUKI keeps every offset in a PE image far from 2^32.
const maxUKI = 1 << 31

// A ukiPart is one section that the stub looks for
// (systemd-stub(7); the UAPI group's UKI specification, "UKI Components").
type ukiPart struct {
	name    string
	content []byte
}

// UKI returns the artifacts of a as one EFI program: the pinned systemd stub
// with kernel, initrd and command line as its sections. A kernel that has the
// others inside is such a program by itself. Equal artifacts give equal bytes.
func UKI(ctx context.Context, c *cache.Cache, r Report, a *Artifacts) ([]byte, error) {
	store, err := NewStore(c, r)
	if err != nil {
		return nil, err
	}
	path, err := store.File(ctx, "systemd-stub", stubMember)
	if err != nil {
		return nil, err
	}
	var files [4][]byte
	for i, name := range []string{path, a.Kernel, a.Initrd, a.Cmdline} {
		if files[i], err = os.ReadFile(name); err != nil {
			return nil, fmt.Errorf("UKI: %w", err)
		}
	}
	stub, kernel, initrd, cmdline := files[0], files[1], files[2], files[3]
	if len(initrd) == 0 && len(cmdline) == 0 {
		return kernel, nil
	}
	release, err := kernelRelease(kernel)
	if err != nil {
		return nil, err
	}
	return assembleUKI(stub, []ukiPart{
		{".osrel", []byte(osRelease)},
		{".cmdline", cmdline},
		{".uname", []byte(release)},
		{".initrd", initrd},
		{".linux", kernel},
	})
}

// kernelRelease reads what `uname -r` will say from a bzImage
// (Documentation/arch/x86/boot.rst, field kernel_version).
func kernelRelease(kernel []byte) (string, error) {
	const pointerAt, setupAt, longest = 0x20e, 0x200, 64
	if len(kernel) < pointerAt+2 || string(kernel[0x202:0x206]) != "HdrS" {
		return "", errors.New("UKI: the kernel is not a bzImage")
	}
	at := setupAt + int(binary.LittleEndian.Uint16(kernel[pointerAt:]))
	if at >= len(kernel) {
		return "", errors.New("UKI: the kernel has no version")
	}
	text := kernel[at:min(len(kernel), at+longest)]
	if release, _, ok := bytes.Cut(text, []byte(" ")); ok && len(release) > 0 {
		return string(release), nil
	}
	return "", errors.New("UKI: the kernel has no version")
}

// assembleUKI appends parts to the stub as sections of their own. It takes only
// a stub whose sections are page-aligned (systemd 254 and later) and leaves out
// whatever differs between builds: the time stamp and the checksum, which no
// firmware looks at.
func assembleUKI(stub []byte, parts []ukiPart) ([]byte, error) {
	img, err := pe.Parse(stub)
	if err != nil {
		return nil, fmt.Errorf("UKI: stub: %w", err)
	}
	end, err := endOfStub(img, parts)
	if err != nil {
		return nil, err
	}
	out := bytes.Clone(stub)
	file := uint64(img.FileAlignment)
	out = append(out, make([]byte, align(uint64(len(out)), file)-uint64(len(out)))...)
	var initialized uint64
	for i, p := range parts {
		raw := align(uint64(len(p.content)), file)
		if uint64(len(out))+raw > maxUKI || end+raw > maxUKI {
			return nil, fmt.Errorf("UKI: larger than %d bytes", maxUKI)
		}
		h := out[img.Table+(len(img.Sections)+i)*pe.SectionSize:][:pe.SectionSize]
		clear(h)
		copy(h, p.name)
		binary.LittleEndian.PutUint32(h[8:], uint32(len(p.content)))
		binary.LittleEndian.PutUint32(h[12:], uint32(end))
		binary.LittleEndian.PutUint32(h[16:], uint32(raw))
		binary.LittleEndian.PutUint32(h[20:], uint32(len(out)))
		binary.LittleEndian.PutUint32(h[36:], 0x40000040) // initialized data, readable
		out = append(out, p.content...)
		out = append(out, make([]byte, raw-uint64(len(p.content)))...)
		end = align(end+uint64(len(p.content)), uint64(img.SectionAlignment))
		initialized += raw
	}
	binary.LittleEndian.PutUint16(out[img.COFF+2:], uint16(len(img.Sections)+len(parts)))
	binary.LittleEndian.PutUint32(out[img.COFF+4:], 0) // TimeDateStamp
	sizeOfData := out[img.Optional+8:]                 // SizeOfInitializedData
	binary.LittleEndian.PutUint32(sizeOfData, binary.LittleEndian.Uint32(sizeOfData)+uint32(initialized))
	binary.LittleEndian.PutUint32(out[img.Optional+56:], uint32(end)) // SizeOfImage
	binary.LittleEndian.PutUint32(out[img.CheckSum:], 0)
	return out, nil
}

// endOfStub checks that parts can be added and returns the first free address.
func endOfStub(img *pe.Image, parts []ukiPart) (uint64, error) {
	if img.SectionAlignment != 4096 || img.FileAlignment != 512 || img.CertificateSize != 0 {
		return 0, errors.New("UKI: the stub is signed, or its sections are not page-aligned")
	}
	var end uint64
	for _, s := range img.Sections {
		end = max(end, uint64(s.VirtualAddress)+uint64(s.VirtualSize))
		for _, p := range parts {
			if s.Name == p.name {
				return 0, fmt.Errorf("UKI: the stub has a section %q already", p.name)
			}
		}
	}
	table := img.Table + (len(img.Sections)+len(parts))*pe.SectionSize
	if table > int(img.SizeOfHeaders) {
		return 0, fmt.Errorf("UKI: no room for %d more sections", len(parts))
	}
	for _, p := range parts {
		if len(p.content) == 0 || len(p.name) > 8 {
			return 0, fmt.Errorf("UKI: section %q is empty or has a long name", p.name)
		}
	}
	return align(end, uint64(img.SectionAlignment)), nil
}

// align rounds n up to a multiple of to, a power of two.
func align(n, to uint64) uint64 { return (n + to - 1) &^ (to - 1) }
