package evidence

import (
	"os"
	"slices"
	"testing"
)

// step is how far apart the flipped bytes are. OMEGA_EVERY_BYTE=1 tries them
// all, which takes minutes.
func step(usual int) int {
	if os.Getenv("OMEGA_EVERY_BYTE") == "1" {
		return 1
	}
	return usual
}

func TestEveryFlippedByteIsRefused(t *testing.T) {
	e, p := h100(t)
	old, _ := h100Old(t)
	certs, err := parseChain(e.Chain)
	if err != nil {
		t.Fatal(err)
	}
	key, err := attestationKey(certs[0])
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		file   []byte
		step   int
		accept func([]byte) error
	}{
		{"report", e.Report, 7, func(b []byte) error {
			r, err := ParseReport(b)
			if err == nil {
				err = r.verify(key)
			}
			return err
		}},
		{"hex of a report", file(t, "h100-545.00", "attestationReport.txt"), 1, func(b []byte) error { return sameReport(b, old.Report) }},
		{"chain", e.Chain, 29, func(b []byte) error {
			certs, err := parseChain(b)
			if err == nil {
				err = verifyChain(certs, p.Roots.Device, p.Now)
			}
			return err
		}},
		{"driver RIM", p.RIMs[0], 97, func(b []byte) error { return acceptRIM(b, &p) }},
		{"VBIOS RIM", p.RIMs[1], 97, func(b []byte) error { return acceptRIM(b, &p) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.accept(tt.file); err != nil {
				t.Fatalf("the file itself: %v", err)
			}
			for i := 0; i < len(tt.file); i += step(tt.step) {
				for _, mask := range []byte{1, 0x20, 0x80} {
					b := slices.Clone(tt.file)
					b[i] ^= mask
					if tt.accept(b) == nil {
						t.Errorf("byte %d (%q), flipped by %#x, is accepted", i, tt.file[i], mask)
					}
				}
			}
		})
	}
}

func acceptRIM(b []byte, p *Params) error {
	r, err := ParseRIM(b)
	if err == nil {
		err = r.VerifySigner(p.Roots.RIM, p.Now)
	}
	return err
}

// sameReport is nil where a text stands for this report.
func sameReport(text, report []byte) error {
	b, err := Binary(text)
	if err == nil && !slices.Equal(b, report) {
		err = ErrSignature
	}
	return err
}

func TestShortFilesAreRefused(t *testing.T) {
	e, p := h100(t)
	for n := range len(e.Report) {
		if _, err := ParseReport(e.Report[:n]); err == nil {
			t.Fatalf("report cut to %d bytes is accepted", n)
		}
	}
	for n := 0; n < len(p.RIMs[0]); n += 101 {
		if _, err := ParseRIM(p.RIMs[0][:n]); err == nil {
			t.Fatalf("RIM cut to %d bytes is accepted", n)
		}
	}
	if _, err := ParseReport(append(slices.Clone(e.Report), 0, 1)); err == nil {
		t.Error("a byte behind the signature is accepted")
	}
}
