package measure

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"omega/internal/pe/petest"
)

// sampleUKI is a small UKI; sections replace or, where they are empty, remove
// its own.
func sampleUKI(change ...petest.Section) []byte {
	sections := []petest.Section{
		{Name: ".sdmagic", Content: []byte("#### LoaderInfo: systemd-stub 257.13-1~deb13u1 ####\x00")},
		{Name: ".sbat", Content: []byte("sbat,1\n")},
		{Name: ".osrel", Content: []byte("ID=omega\n")},
		{Name: ".cmdline", Content: []byte("quiet")},
		{Name: ".uname", Content: []byte("6.12")},
		{Name: ".initrd", Content: []byte("initrd")},
		{Name: ".linux", Content: petest.Image(petest.Section{Name: ".text", Content: []byte("kernel")})},
	}
	for _, c := range change {
		found := false
		for i := range sections {
			if sections[i].Name == c.Name {
				sections[i], found = c, true
			}
		}
		if !found {
			sections = append(sections, c)
		}
	}
	var kept []petest.Section
	for _, s := range sections {
		if len(s.Content) > 0 {
			kept = append(kept, s)
		}
	}
	return petest.Image(kept...)
}

func TestPredictionListsEveryEventInOrder(t *testing.T) {
	tests := []struct {
		boot Boot
		want []string
	}{
		{DiskBoot, []string{"action: boot option", "separator", "UKI", "kernel"}},
		{DirectBoot, []string{"UKI", "action: boot option", "separator", "kernel"}},
	}
	for _, tt := range tests {
		p, err := PredictPCRs(sampleUKI(), tt.boot, crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		want := append(tt.want, "command line", "initrd")
		for _, name := range []string{".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat"} {
			want = append(want, "name of "+name, "content of "+name)
		}
		var got []string
		for _, e := range p.Events {
			got = append(got, e.What)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", tt.boot, diff)
		}
		if p.Stub != "systemd-stub 257.13-1~deb13u1" {
			t.Errorf("stub %q", p.Stub)
		}
		if v := p.Value(12); !bytes.Equal(v, make([]byte, 32)) {
			t.Errorf("PCR 12 is %x", v)
		}
	}
}

// The two events that are the same on every machine, as event logs show them.
func TestPredictionHasTheWellKnownEvents(t *testing.T) {
	p, err := PredictPCRs(sampleUKI(), DiskBoot, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{
		"3d6772b4f84ed47595d72a2c4c5ffd15f5bb72c7507fe26f2aaee2c69d5633ba",
		"df3f619804a92fdb4057192dc43dd748ea778adc52bc498ce80524c014b81119",
	} {
		if got := hex.EncodeToString(p.Events[i].Digest); got != want {
			t.Errorf("event %d, %s: digest %s", i, p.Events[i].What, got)
		}
	}
}

func TestPCRValueFoldsItsEvents(t *testing.T) {
	p := &PCRPrediction{Bank: crypto.SHA256}
	p.extend(11, "one", []byte("a"))
	p.extend(4, "another register", []byte("x"))
	p.extend(11, "two", []byte("b"))
	a, b := sha256.Sum256([]byte("a")), sha256.Sum256([]byte("b"))
	v := sha256.Sum256(append(make([]byte, 32), a[:]...))
	v = sha256.Sum256(append(v[:], b[:]...))
	if got := p.Value(11); !bytes.Equal(got, v[:]) {
		t.Errorf("PCR 11 is %x, want %x", got, v)
	}
}

func TestEachPartMovesItsOwnRegisters(t *testing.T) {
	base, err := PredictPCRs(sampleUKI(), DiskBoot, crypto.SHA384)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		section string
		content []byte
		moved   []int
	}{
		{".initrd", []byte("another"), []int{4, 9, 11}},
		{".initrd", nil, []int{4, 9, 11}},
		{".cmdline", []byte("debug"), []int{4, 9, 11}},
		{".osrel", []byte("ID=other\n"), []int{4, 9, 11}}, // the kernel sees it as a file
		{".uname", []byte("6.13"), []int{4, 11}},
		{".ucode", []byte("microcode"), []int{4, 9, 11}},
		{".pcrsig", []byte("{}"), []int{4, 9}}, // a signature of PCR 11 cannot be in it
	}
	for _, tt := range tests {
		p, err := PredictPCRs(sampleUKI(petest.Section{Name: tt.section, Content: tt.content}), DiskBoot, crypto.SHA384)
		if err != nil {
			t.Fatal(err)
		}
		var moved []int
		for _, pcr := range PredictedPCRs {
			if !bytes.Equal(base.Value(pcr), p.Value(pcr)) {
				moved = append(moved, pcr)
			}
		}
		if diff := cmp.Diff(tt.moved, moved); diff != "" {
			t.Errorf("%s: %s", tt.section, diff)
		}
	}
}

func TestPredictionRefusesWhatItCannotKnow(t *testing.T) {
	tests := []struct {
		name string
		uki  []byte
		boot Boot
		bank crypto.Hash
		want string
	}{
		{"no program", nil, DiskBoot, crypto.SHA256, "no DOS header"},
		{"another boot", sampleUKI(), "network", crypto.SHA256, "boot \"network\""},
		{"another bank", sampleUKI(), DiskBoot, crypto.SHA1, "SHA-256 or SHA-384"},
		{"no stub", sampleUKI(petest.Section{Name: ".sdmagic"}), DiskBoot, crypto.SHA256, "not a UKI"},
		{"a newer stub", sampleUKI(petest.Section{Name: ".sdmagic", Content: []byte("#### LoaderInfo: systemd-stub 262.1-1 ####")}), DiskBoot, crypto.SHA256, "not known"},
		{"a stub of the far future", sampleUKI(petest.Section{Name: ".sdmagic", Content: []byte("#### LoaderInfo: systemd-stub 2571 ####")}), DiskBoot, crypto.SHA256, "not known"},
		{"no kernel", sampleUKI(petest.Section{Name: ".linux"}), DiskBoot, crypto.SHA256, "no kernel"},
		{"a kernel that is no program", sampleUKI(petest.Section{Name: ".linux", Content: []byte("x")}), DiskBoot, crypto.SHA256, "kernel in the UKI"},
		{"a command line that is tidied up", sampleUKI(petest.Section{Name: ".cmdline", Content: []byte("quiet\n")}), DiskBoot, crypto.SHA256, "space"},
		{"a command line with control bytes", sampleUKI(petest.Section{Name: ".cmdline", Content: []byte("a\tb")}), DiskBoot, crypto.SHA256, "byte 0x9"},
		{"profiles", sampleUKI(petest.Section{Name: ".profile", Content: []byte("ID=x")}), DiskBoot, crypto.SHA256, "not predictable"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := PredictPCRs(tt.uki, tt.boot, tt.bank)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestAuthentihashLeavesSignaturesOut(t *testing.T) {
	program := petest.Image(petest.Section{Name: ".text", Content: []byte("code")})
	hash := func(b []byte) string {
		sum, err := Authentihash(b, crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(sum)
	}
	plain := hash(program)
	signed := append(bytes.Clone(program), "signature"...)
	binary.LittleEndian.PutUint32(signed[petest.CheckSumAt:], 0xffff)
	binary.LittleEndian.PutUint32(signed[petest.CertificateAt:], uint32(len(program)))
	binary.LittleEndian.PutUint32(signed[petest.CertificateAt+4:], uint32(len("signature")))
	if got := hash(signed); got != plain {
		t.Errorf("with a signature %s, without %s", got, plain)
	}
	for name, at := range map[string]int{"a header": petest.HeaderAt + 8, "code": petest.SizeOfHeaders, "padding": petest.SizeOfHeaders + 511} {
		other := bytes.Clone(program)
		other[at]++
		if hash(other) == plain {
			t.Errorf("a change of %s does not show", name)
		}
	}
	if hash(append(bytes.Clone(program), "more"...)) == plain {
		t.Error("bytes behind the sections do not show")
	}
	binary.LittleEndian.PutUint32(program[petest.TableAt+20:], 0) // the section lies over the headers
	binary.LittleEndian.PutUint32(program[petest.TableAt+16:], 1024)
	if _, err := Authentihash(program, crypto.SHA256); err == nil {
		t.Error("overlapping sections have a hash")
	}
}

// The stub's archive has the very bytes of newc, so GNU cpio would make it too.
func TestTheStubsArchiveIsNewc(t *testing.T) {
	got := string(wrap("os-release", []byte("ID=omega\n")))
	want := "070701" + "00000001" + "0000416d" + strings.Repeat("0", 16) + "00000001" + strings.Repeat("0", 48) + "00000007" + "00000000" + ".extra\x00" + "\x00\x00\x00" +
		"070701" + "00000002" + "00008124" + strings.Repeat("0", 16) + "00000001" + "00000000" + "00000009" + strings.Repeat("0", 32) + "00000012" + "00000000" + ".extra/os-release\x00" +
		"ID=omega\n\x00\x00\x00" +
		"070701" + strings.Repeat("0", 32) + "00000001" + strings.Repeat("0", 48) + "0000000B" + "00000000" + "TRAILER!!!\x00\x00\x00\x00"
	if got != want {
		t.Errorf("archive\n%q\nwant\n%q", got, want)
	}
}

func FuzzPredictPCRs(f *testing.F) {
	f.Add(sampleUKI())
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := PredictPCRs(b, DiskBoot, crypto.SHA256); err == nil && len(p.Value(11)) != 32 {
			t.Error("a register of another size")
		}
	})
}

// Seen with OVMF, a TPM and a kernel that has its initramfs and its command line
// inside: firmware measures one program, and nothing else is measured.
func TestAKernelByItselfExtendsPCR4Alone(t *testing.T) {
	kernel := petest.Image(petest.Section{Name: ".text", Content: make([]byte, 4096)})
	copy(kernel[0x202:], "HdrS")
	p, err := PredictPCRs(kernel, DiskBoot, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := Authentihash(kernel, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(p.Events); n != 3 || !bytes.Equal(p.Events[2].Digest, hash) || p.Events[2].PCR != 4 {
		t.Errorf("events %+v", p.Events)
	}
	for _, pcr := range []int{9, 11, 12} {
		if !bytes.Equal(p.Value(pcr), make([]byte, 32)) {
			t.Errorf("PCR %d is %x", pcr, p.Value(pcr))
		}
	}
	if _, err := PredictPCRs(kernel, DirectBoot, crypto.SHA256); err == nil {
		t.Error("QEMU changes the header, and yet there is a prediction")
	}
}
