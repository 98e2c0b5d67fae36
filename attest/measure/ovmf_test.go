package measure

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"omega/internal/vectors"
)

// testFirmware makes a firmware image of one page with the given sections,
// (GPA, size, type) each, and a hash table at tableGPA.
func testFirmware(tableGPA uint32, sections ...[3]uint32) []byte {
	image := make([]byte, pageSize)
	le := binary.LittleEndian
	meta := []byte("ASEV")
	for _, w := range []uint32{uint32(16 + 12*len(sections)), 1, uint32(len(sections))} {
		meta = le.AppendUint32(meta, w)
	}
	for _, s := range sections {
		for _, w := range s {
			meta = le.AppendUint32(meta, w)
		}
	}
	copy(image[0x100:], meta)
	var table []byte
	entry := func(id [16]byte, words ...uint32) {
		for _, w := range words {
			table = le.AppendUint32(table, w)
		}
		table = le.AppendUint16(table, uint16(4*len(words)+18))
		table = append(table, id[:]...)
	}
	entry(guidMetadata, pageSize-0x100)
	entry(guidResetAP, 0x80b004)
	if tableGPA != 0 {
		entry(guidHashTable, tableGPA, 0x400)
	}
	table = le.AppendUint16(table, uint16(len(table)+18))
	table = append(table, guidFooter[:]...)
	copy(image[pageSize-32-len(table):], table)
	return image
}

func input(ovmf []byte) Input {
	return Input{OVMF: ovmf, VCPUs: 1, CPU: "EPYC-Milan", VMM: QEMU, GuestFeatures: 1}
}

var hashesSection = [3]uint32{0x810000, 0x1000, 0x10}

func TestInputsThatHaveNoDigestAreErrors(t *testing.T) {
	good := testFirmware(0x810c00, hashesSection)
	tests := []struct {
		name   string
		change func(*Input)
		want   string
	}{
		{"an unknown CPU", func(in *Input) { in.CPU = "EPYC-Naples" }, "known are EPYC, "},
		{"an unknown version of a CPU", func(in *Input) { in.CPU = "EPYC-Milan-v9" }, "not known"},
		{"no CPU", func(in *Input) { in.CPU = "" }, "not known"},
		{"an unknown VMM", func(in *Input) { in.VMM = "xen" }, "not known"},
		{"no vCPU", func(in *Input) { in.VCPUs = 0 }, "vCPUs"},
		{"too many vCPUs", func(in *Input) { in.VCPUs = 5000 }, "vCPUs"},
		{"SNP not active", func(in *Input) { in.GuestFeatures = 0x20 }, "not active"},
		{"an initrd without a kernel", func(in *Input) { in.Initrd = Bytes(nil) }, "without a kernel"},
		{"a command line without a kernel", func(in *Input) { in.Cmdline = Cmdline("") }, "without a kernel"},
		{"a kernel that the firmware does not measure", func(in *Input) { in.OVMF, in.Kernel = testFirmware(0x810c00), Bytes(nil) }, "does not measure"},
		{"a kernel and no hash table", func(in *Input) { in.OVMF, in.Kernel = testFirmware(0, hashesSection), Bytes(nil) }, "no place"},
		{"a hash table across pages", func(in *Input) { in.OVMF, in.Kernel = testFirmware(0x810ff0, hashesSection), Bytes(nil) }, "crosses"},
		{"a section of unknown type", func(in *Input) { in.OVMF = testFirmware(0, [3]uint32{0x800000, 0x1000, 7}) }, "unknown type"},
		{"a section of half a page", func(in *Input) { in.OVMF = testFirmware(0, [3]uint32{0x800000, 0x800, 1}) }, "whole pages"},
		{"secrets of two pages", func(in *Input) { in.OVMF = testFirmware(0, [3]uint32{0x800000, 0x2000, 2}) }, "one page"},
		{"huge sections", func(in *Input) { in.OVMF = testFirmware(0, [3]uint32{0, 0xfffff000, 1}) }, "more than"},
		{"no firmware", func(in *Input) { in.OVMF = nil }, "firmware of 0 bytes"},
		{"half a page of firmware", func(in *Input) { in.OVMF = good[:100] }, "whole pages"},
		{"firmware without a footer", func(in *Input) { in.OVMF = make([]byte, pageSize) }, "no footer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := input(good)
			tt.change(&in)
			if _, err := LaunchDigest(in); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v", err)
			}
		})
	}
	if _, err := LaunchDigest(input(good)); err != nil {
		t.Errorf("the good input: %v", err)
	}
}

func TestBrokenFooterTablesAreErrors(t *testing.T) {
	const end = pageSize - 32
	le := binary.LittleEndian
	for name, change := range map[string]func([]byte){
		"a table longer than the image":  func(b []byte) { le.PutUint16(b[end-18:], pageSize) },
		"a table shorter than its head":  func(b []byte) { le.PutUint16(b[end-18:], 17) },
		"a table cut in an entry":        func(b []byte) { le.PutUint16(b[end-18:], 18+10) },
		"an entry longer than the rest":  func(b []byte) { le.PutUint16(b[end-18-18:], 500) },
		"an entry shorter than its head": func(b []byte) { le.PutUint16(b[end-18-18:], 0) },
		"metadata out of the image":      func(b []byte) { le.PutUint32(b[end-18-22-22:], pageSize+1) },
		"metadata in the last bytes":     func(b []byte) { le.PutUint32(b[end-18-22-22:], 15) },
		"other metadata":                 func(b []byte) { b[0x100] = 'X' },
		"another version":                func(b []byte) { b[0x108] = 2 },
		"more sections than bytes":       func(b []byte) { b[0x10c] = 60 },
	} {
		b := testFirmware(0, hashesSection)
		if _, err := parseFirmware(b); err != nil {
			t.Fatal(err)
		}
		change(b)
		if _, err := parseFirmware(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	twice := testFirmware(0x810c00, hashesSection)
	copy(twice[end-18-16:], guidMetadata[:]) // instead of the hash table's
	if _, err := parseFirmware(twice); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("an entry twice: %v", err)
	}
}

func TestPartsMayBeGivenByDigest(t *testing.T) {
	in := input(testFirmware(0x810c00, hashesSection))
	in.Kernel, in.Initrd, in.Cmdline = Bytes([]byte("k")), Bytes([]byte("i")), Cmdline("c")
	whole, err := LaunchDigest(in)
	if err != nil {
		t.Fatal(err)
	}
	in.Kernel, in.Initrd, in.Cmdline = Digest(in.Kernel.sum), Digest(in.Initrd.sum), Digest(in.Cmdline.sum)
	if sums, err := LaunchDigest(in); err != nil || sums != whole {
		t.Errorf("by digest %x, by bytes %x: %v", sums, whole, err)
	}
}

func TestEveryInputChangesTheDigest(t *testing.T) {
	base := input(testFirmware(0x810c00, hashesSection, [3]uint32{0x800000, 0x1000, 1}))
	base.VCPUs, base.Kernel, base.Initrd, base.Cmdline = 2, Bytes([]byte("k")), Bytes([]byte("i")), Cmdline("c")
	seen := map[[48]byte]string{}
	for name, change := range map[string]func(*Input){
		"nothing":      func(*Input) {},
		"firmware":     func(in *Input) { in.OVMF = bytes.Clone(in.OVMF); in.OVMF[0] ^= 1 },
		"kernel":       func(in *Input) { in.Kernel = Bytes([]byte("K")) },
		"initrd":       func(in *Input) { in.Initrd = Bytes([]byte("I")) },
		"no initrd":    func(in *Input) { in.Initrd = Part{} },
		"command line": func(in *Input) { in.Cmdline = Cmdline("C") },
		"vCPUs":        func(in *Input) { in.VCPUs = 3 },
		"CPU":          func(in *Input) { in.CPU = "EPYC-Genoa" },
		"features":     func(in *Input) { in.GuestFeatures = 0x21 },
		"ec2":          func(in *Input) { in.VMM = EC2 },
		"gce":          func(in *Input) { in.VMM = GCE },
	} {
		in := base
		change(&in)
		d, err := LaunchDigest(in)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if seen[d] != "" {
			t.Errorf("%s gives the digest of %s", name, seen[d])
		}
		seen[d] = name
	}
}

func FuzzParseFirmware(f *testing.F) {
	f.Add(testFirmware(0x810c00, hashesSection, [3]uint32{0x800000, 0x9000, 1}))
	f.Add(vectors.Read(f, "launch-digest", "ovmf_AmdSev_suffix.bin"))
	f.Add(vectors.Read(f, "launch-digest", "ovmf_OvmfX64_suffix.bin"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fw, err := parseFirmware(b)
		if err != nil {
			return
		}
		for _, s := range fw.sections {
			if err := s.check(); err != nil || s.size > maxBlank {
				t.Errorf("section %+v: %v", s, err)
			}
		}
		if page, err := hashesPage(&Input{Kernel: Bytes(nil)}, fw.hashTable); err == nil && len(page) != pageSize {
			t.Errorf("hash page of %d bytes", len(page))
		}
	})
}
