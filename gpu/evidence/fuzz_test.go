package evidence

import (
	"bytes"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"omega/internal/membound"
)

// seed adds recorded files where there are any; the fuzz tests run without, too.
func seed(f *testing.F, pattern string) {
	dir := os.Getenv("OMEGA_VECTORS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "vectors")
	}
	names, _ := filepath.Glob(filepath.Join(dir, "nvidia", pattern))
	for _, n := range names {
		if b, err := os.ReadFile(n); err == nil {
			if bin, err := Binary(b); err == nil {
				b = bin
			}
			f.Add(b)
		}
	}
}

func FuzzReport(f *testing.F) {
	seed(f, "h100-*/*[rR]eport*")
	f.Add([]byte{0x11, 0xe0, 1, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		membound.Check(t, b, func() { _, _ = ParseReport(b) })
		r, err := ParseReport(b)
		if err != nil {
			return
		}
		if r.Opaque.Driver == "" || len(r.signature) != signatureSize {
			t.Errorf("report without driver or signature: %+v", r)
		}
		if !bytes.HasPrefix(b, append(r.signed, r.signature...)) {
			t.Error("what is signed is not what was read")
		}
	})
}

func FuzzChain(f *testing.F) {
	seed(f, "h100-*/*[cC]hain*")
	f.Fuzz(func(t *testing.T, b []byte) {
		membound.Check(t, b, func() { _, _ = parseChain(b) })
		certs, err := parseChain(b)
		if err != nil {
			return
		}
		var again []byte
		for _, c := range certs {
			again = append(again, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
			_, _ = firmwareIDs(c)
		}
		if _, err := parseChain(again); err != nil {
			t.Errorf("chain written again: %v", err)
		}
	})
}

func FuzzFirmwareID(f *testing.F) {
	f.Add([]byte{0x30, 3, 2, 1, 1})
	f.Add([]byte{0x30, 4, 0xa6, 2, 0x30, 0})
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = parseFirmwareID(b) })
}

func FuzzRIM(f *testing.F) {
	seed(f, "rim*/*")
	f.Fuzz(func(t *testing.T, b []byte) {
		membound.Check(t, b, func() { _, _ = ParseRIM(b) })
		r, err := ParseRIM(b)
		if err == nil && (len(r.active) == 0 || len(r.certs) == 0) {
			t.Error("a RIM without measurements or signer")
		}
	})
}

// FuzzCanonical: canonical form is a fixed point, and what it says is what was read.
func FuzzCanonical(f *testing.F) {
	seed(f, "rim*/*")
	f.Add([]byte(`<a xmlns="u" xmlns:p="v" p:z="&lt;" b='"'>x&gt;<p:c xmlns=""/></a>`))
	f.Fuzz(func(t *testing.T, b []byte) {
		root, err := parseXML(b)
		if err != nil {
			return
		}
		once := canonical(root, nil)
		again, err := parseXML(once)
		if err != nil {
			t.Fatalf("canonical form is refused: %v\n%q", err, once)
		}
		if twice := canonical(again, nil); !bytes.Equal(once, twice) {
			t.Errorf("canonical form changes:\n%q\n%q", once, twice)
		}
	})
}

func FuzzOCSP(f *testing.F) {
	seed(f, "h100-*/*ocsp*")
	f.Fuzz(func(t *testing.T, b []byte) {
		membound.Check(t, b, func() { _, _ = ParseOCSP(b) })
		o, err := ParseOCSP(b)
		if err == nil && (o.status == "" || o.id.Serial == nil || !bytes.Contains(b, o.signed)) {
			t.Errorf("an OCSP response that says nothing: %+v", o)
		}
	})
}

func FuzzBinary(f *testing.F) {
	f.Add([]byte("00ff"))
	f.Add([]byte("MIID"))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = Binary(b) })
}
