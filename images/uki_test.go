package images

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"testing"

	"omega/internal/pe/petest"
)

// parts are those of a small image.
func parts() []ukiPart {
	return []ukiPart{
		{".osrel", []byte(osRelease)}, {".cmdline", []byte("quiet")}, {".uname", []byte("6.12")},
		{".initrd", bytes.Repeat([]byte("i"), 5000)}, {".linux", petest.Image(petest.Section{Name: ".text", Content: []byte("kernel")})},
	}
}

func stub() []byte {
	return petest.Image(petest.Section{Name: ".text", Content: bytes.Repeat([]byte("s"), 700)}, petest.Section{Name: ".sbat", Content: []byte("sbat")})
}

func TestUKIHoldsEveryPartAsASection(t *testing.T) {
	out, err := assembleUKI(stub(), parts())
	if err != nil {
		t.Fatal(err)
	}
	// The standard library reads it, which has its own idea of the format.
	f, err := pe.NewFile(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	var end uint32
	for _, s := range f.Sections {
		if s.VirtualAddress%4096 != 0 || s.VirtualAddress < end || s.Offset%512 != 0 || s.Size%512 != 0 {
			t.Errorf("section %s: %+v", s.Name, s.SectionHeader)
		}
		end = s.VirtualAddress + s.VirtualSize
	}
	for _, p := range parts() {
		s := f.Section(p.name)
		if s == nil {
			t.Fatalf("no section %s", p.name)
		}
		b, err := s.Data()
		if err != nil || !bytes.Equal(b[:s.VirtualSize], p.content) {
			t.Errorf("section %s holds other bytes, error %v", p.name, err)
		}
	}
	h := f.OptionalHeader.(*pe.OptionalHeader64)
	if h.SizeOfImage < end || h.SizeOfImage%4096 != 0 || h.CheckSum != 0 || f.TimeDateStamp != 0 {
		t.Errorf("SizeOfImage %#x behind %#x, CheckSum %#x, TimeDateStamp %#x", h.SizeOfImage, end, h.CheckSum, f.TimeDateStamp)
	}
}

func TestUKIDependsOnItsPartsAlone(t *testing.T) {
	first, err := assembleUKI(stub(), parts())
	if err != nil {
		t.Fatal(err)
	}
	other := stub()
	binary.LittleEndian.PutUint32(other[petest.HeaderAt+8:], 1) // built at another time
	second, err := assembleUKI(other, parts())
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("two builds differ, error %v", err)
	}
}

func TestUKIRefusesStubsAndPartsThatDoNotFit(t *testing.T) {
	put32 := binary.LittleEndian.PutUint32
	tests := []struct {
		name   string
		change func(b []byte) []byte
		parts  []ukiPart
		want   string
	}{
		{"no stub", func([]byte) []byte { return nil }, parts(), "no DOS header"},
		{"sections that are not page-aligned", func(b []byte) []byte { put32(b[petest.OptionalAt+32:], 32); return b }, parts(), "not page-aligned"},
		{"a signed stub", func(b []byte) []byte { put32(b[petest.CertificateAt+4:], 8); return b }, parts(), "signed"},
		{"full headers", func(b []byte) []byte { put32(b[petest.OptionalAt+60:], petest.TableAt+3*40); return b }, parts(), "no room"},
		{"a part of the stub's own name", nil, []ukiPart{{".sbat", []byte("x")}}, "already"},
		{"an empty part", nil, []ukiPart{{".linux", nil}}, "empty"},
		{"a long name", nil, []ukiPart{{".longname", []byte("x")}}, "long name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := stub()
			if tt.change != nil {
				b = tt.change(b)
			}
			_, err := assembleUKI(b, tt.parts)
			expect(t, err, tt.want)
		})
	}
}

func TestTheKernelSaysItsRelease(t *testing.T) {
	kernel := make([]byte, 0x400)
	copy(kernel[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(kernel[0x20e:], 0x100)
	copy(kernel[0x300:], "6.12.117 (build@build) #1 SMP")
	if got, err := kernelRelease(kernel); err != nil || got != "6.12.117" {
		t.Errorf("release %q, %v", got, err)
	}
	for name, b := range map[string][]byte{"nothing": nil, "no version": append(kernel[:0x300:0x300], make([]byte, 80)...), "cut off": kernel[:0x300]} {
		if got, err := kernelRelease(b); err == nil {
			t.Errorf("%s: release %q", name, got)
		}
	}
}
