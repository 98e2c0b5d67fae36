package pe

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"omega/internal/pe/petest"
)

func sample() []byte {
	return petest.Image(petest.Section{Name: ".text", Content: []byte("code")}, petest.Section{Name: ".sbat", Content: []byte("sbat,1\n")})
}

func TestParseReadsHeadersAndSections(t *testing.T) {
	img, err := Parse(sample())
	if err != nil {
		t.Fatal(err)
	}
	want := []Section{{".text", 4, 0x1000, 512, 0x600}, {".sbat", 7, 0x2000, 512, 0x800}}
	if diff := cmp.Diff(want, img.Sections); diff != "" {
		t.Error(diff)
	}
	if img.CheckSum != petest.CheckSumAt || img.Certificates != petest.CertificateAt || img.SizeOfImage != 0x3000 {
		t.Errorf("headers %+v", img)
	}
	if b, err := img.Content(".sbat"); err != nil || string(b) != "sbat,1\n" {
		t.Errorf("content %q, %v", b, err)
	}
	if b, err := img.Content(".linux"); err != nil || b != nil {
		t.Errorf("a section that is not there: %q, %v", b, err)
	}
}

func TestParseRefusesWhatDoesNotFit(t *testing.T) {
	put16, put32 := binary.LittleEndian.PutUint16, binary.LittleEndian.PutUint32
	tests := []struct {
		name   string
		change func(b []byte) []byte
		want   string
	}{
		{"nothing", func([]byte) []byte { return nil }, "no DOS header"},
		{"a script", func([]byte) []byte { return []byte(strings.Repeat("#", 100)) }, "no DOS header"},
		{"a header behind the end", func(b []byte) []byte { put32(b[0x3c:], 0xffffffff); return b }, "no PE header"},
		{"a 32-bit image", func(b []byte) []byte { put16(b[petest.OptionalAt:], 0x10b); return b }, "not a 64-bit"},
		{"a short optional header", func(b []byte) []byte { put16(b[petest.HeaderAt+20:], 8); return b }, "not a 64-bit"},
		{"too many directories", func(b []byte) []byte { put32(b[petest.OptionalAt+108:], 17); return b }, "directories"},
		{"too many sections", func(b []byte) []byte { put16(b[petest.HeaderAt+6:], 97); return b }, "97 sections"},
		{"sections behind the headers", func(b []byte) []byte { put32(b[petest.OptionalAt+60:], 0x100); return b }, "headers do not fit"},
		{"a section that is cut off", func(b []byte) []byte { return b[:len(b)-1] }, "cut off"},
		{"a certificate behind the end", func(b []byte) []byte { put32(b[petest.CertificateAt+4:], 1<<30); return b }, "certificates"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse(tt.change(sample()))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestContentRefusesWhatLoadersDisagreeAbout(t *testing.T) {
	twice, err := Parse(petest.Image(petest.Section{Name: ".x", Content: []byte("1")}, petest.Section{Name: ".x", Content: []byte("2")}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := twice.Content(".x"); err == nil {
		t.Error("a section that is there twice was returned")
	}
	b := sample()
	binary.LittleEndian.PutUint32(b[petest.TableAt+8:], 513)
	larger, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := larger.Content(".text"); err == nil {
		t.Error("a section with bytes that the file does not hold was returned")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample())
	f.Add(petest.Image())
	f.Fuzz(func(t *testing.T, b []byte) {
		img, err := Parse(b)
		if err != nil {
			return
		}
		for _, s := range img.Sections {
			if c, err := img.Content(s.Name); err == nil && len(c) != int(s.VirtualSize) {
				t.Errorf("section %q: %d bytes", s.Name, len(c))
			}
		}
	})
}
