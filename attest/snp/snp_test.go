package snp

import (
	"bytes"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-sev-guest/abi"

	"omega/attest"
	"omega/internal/membound"
	"omega/internal/vectors"
)

// at2026 is when the vectors' VCEKs are valid.
var at2026 = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

type vector struct {
	name    string
	product Product
	version uint32
	report  []byte
	leaf    []byte
	at      time.Time
}

func real(t testing.TB) []vector {
	var out []vector
	for _, v := range []struct {
		dir     string
		product Product
		version uint32
	}{{"milan", Milan, 3}, {"genoa", Genoa, 3}, {"turin", Turin, 5}} {
		out = append(out, vector{v.dir, v.product, v.version,
			vectors.Read(t, "snp", v.dir, v.dir+"_attestation_report.bin"),
			vectors.Read(t, "snp", v.dir, v.dir+"_vcek.pem"), at2026})
	}
	return append(out, vector{"vlek-milan", Milan, 3,
		vectors.Read(t, "snp", "vlek-milan", "test-vlek-report.bin"),
		vectors.Read(t, "snp", "vlek-milan", "test-vlek.der"), time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)})
}

func mustRoots(t testing.TB) []Root {
	roots, err := AMDRoots()
	if err != nil {
		t.Fatal(err)
	}
	return roots
}

func mustCert(t testing.TB, b []byte) *x509.Certificate {
	c, err := ParseCertificate(b)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRealReportsVerifyAgainstAMDsRoots(t *testing.T) {
	roots := mustRoots(t)
	for _, v := range real(t) {
		got, err := Verify(v.report, Chain{Leaf: mustCert(t, v.leaf)}, roots, v.at)
		if err != nil {
			t.Errorf("%s: %v", v.name, err)
			continue
		}
		if got.Product != v.product || got.Report.Version != v.version {
			t.Errorf("%s: product %s version %d", v.name, got.Product, got.Report.Version)
		}
	}
}

func TestChainsOfTheVectorsAreThePinnedOnes(t *testing.T) {
	roots := mustRoots(t)
	for _, dir := range []string{"milan", "genoa", "turin"} {
		chain := Chain{
			Leaf:         mustCert(t, vectors.Read(t, "snp", dir, dir+"_vcek.pem")),
			Intermediate: mustCert(t, vectors.Read(t, "snp", dir, dir+"_ask.pem")),
			ARK:          mustCert(t, vectors.Read(t, "snp", dir, dir+"_ark.pem")),
		}
		if _, err := Verify(vectors.Read(t, "snp", dir, dir+"_attestation_report.bin"), chain, roots, at2026); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func TestCertificatesOutsideOfTheirTimeAreRefused(t *testing.T) {
	roots := mustRoots(t)
	for _, v := range real(t) {
		for _, at := range []time.Time{v.at.AddDate(-10, 0, 0), v.at.AddDate(10, 0, 0), {}} {
			if _, err := Verify(v.report, Chain{Leaf: mustCert(t, v.leaf)}, roots, at); !errors.Is(err, attest.ErrSignature) {
				t.Errorf("%s at %s: %v", v.name, at, err)
			}
		}
	}
}

func TestEveryFlippedBitOfAReportIsRefused(t *testing.T) {
	roots := mustRoots(t)
	for _, v := range real(t) {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			chain := Chain{Leaf: mustCert(t, v.leaf)}
			for i := 0; i < 8*len(v.report); i += stride() {
				if _, err := Verify(flip(v.report, i), chain, roots, v.at); !errors.Is(err, attest.ErrSignature) {
					t.Fatalf("bit %d of byte %#x: %v", i%8, i/8, err)
				}
			}
		})
	}
}

func TestEveryFlippedBitOfACertificateIsRefused(t *testing.T) {
	roots := mustRoots(t)
	for _, v := range real(t) {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			for _, form := range [][]byte{v.leaf, mustCert(t, v.leaf).Raw} {
				for i := 0; i < 8*len(form); i += stride() {
					c, err := ParseCertificate(flip(form, i))
					if err != nil {
						continue
					}
					if _, err := Verify(v.report, Chain{Leaf: c}, roots, v.at); !errors.Is(err, attest.ErrSignature) {
						t.Fatalf("bit %d of byte %d: %v", i%8, i/8, err)
					}
				}
			}
		})
	}
}

func TestReportsAndCertificatesOfOtherMachinesAreRefused(t *testing.T) {
	roots := mustRoots(t)
	all := real(t)
	for i, a := range all {
		for j, b := range all {
			if i == j {
				continue
			}
			if _, err := Verify(a.report, Chain{Leaf: mustCert(t, b.leaf)}, roots, b.at); !errors.Is(err, attest.ErrSignature) {
				t.Errorf("report of %s with certificate of %s: %v", a.name, b.name, err)
			}
		}
	}
}

func TestRootsThatAreNotTrustedAreRefused(t *testing.T) {
	roots := mustRoots(t)
	v := real(t)[0]
	leaf := mustCert(t, v.leaf)
	genoa := roots[1]
	for name, c := range map[string]struct {
		chain Chain
		roots []Root
	}{
		"no roots":                     {Chain{Leaf: leaf}, nil},
		"another product's root":       {Chain{Leaf: leaf}, []Root{genoa}},
		"a root the chain brings":      {Chain{Leaf: leaf, ARK: genoa.ARK}, roots},
		"another intermediate":         {Chain{Leaf: leaf, Intermediate: roots[0].Intermediates[1]}, roots},
		"a root under another product": {Chain{Leaf: leaf}, []Root{{Genoa, roots[0].ARK, roots[0].Intermediates}}},
		"no leaf":                      {Chain{}, roots},
	} {
		if _, err := Verify(v.report, c.chain, c.roots, v.at); !errors.Is(err, attest.ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReportsAreReadAsTheReferenceReadsThem(t *testing.T) {
	for _, v := range real(t) {
		r, err := ParseReport(v.report)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(r.Marshal(), v.report) {
			t.Errorf("%s: reading and writing changes the report", v.name)
		}
		p, err := abi.ReportToProto(v.report)
		if err != nil {
			t.Fatal(err)
		}
		type fields struct {
			Policy, Info, Current, Reported, Committed, Launch uint64
			Measurement, HostData, ReportData, ChipID          []byte
			VMPL, SVN                                          uint32
		}
		want := fields{p.Policy, p.PlatformInfo, p.CurrentTcb, p.ReportedTcb, p.CommittedTcb, p.LaunchTcb,
			p.Measurement, p.HostData, p.ReportData, p.ChipId, p.Vmpl, p.GuestSvn}
		got := fields{uint64(r.GuestPolicy), uint64(r.PlatformInfo), uint64(r.CurrentTCB), uint64(r.ReportedTCB), uint64(r.CommittedTCB), uint64(r.LaunchTCB),
			r.Measurement[:], r.HostData[:], r.ReportData[:], r.ChipID[:], r.VMPL, r.GuestSVN}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", v.name, d)
		}
	}
}

func TestPEMWithAnythingAroundItIsRefused(t *testing.T) {
	good := vectors.Read(t, "snp", "milan", "milan_ask.pem")
	if _, err := ParseCertificate(bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n"))); err != nil {
		t.Errorf("CRLF: %v", err)
	}
	for name, b := range map[string][]byte{
		"empty": {}, "text before": append([]byte("x\n"), good...), "text behind": append(bytes.Clone(good), 'x'),
		"two": append(bytes.Clone(good), good...), "a NUL": append(bytes.Clone(good), 0),
	} {
		if _, err := ParseCertificate(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestCertificateTables(t *testing.T) {
	want := &Table{VCEK: []byte("v"), ASK: []byte("intermediate"), ARK: []byte("root")}
	got, err := ParseTable(want.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	theirs := new(abi.CertTable)
	if err := theirs.Unmarshal(want.Marshal()); err != nil || len(theirs.Entries) != 3 {
		t.Errorf("the reference reads %d entries: %v", len(theirs.Entries), err)
	}
	good := want.Marshal()
	for name, b := range map[string][]byte{
		"cut": good[:30], "no end": good[:entrySize*3], "out of bounds": good[:len(good)-1],
		"twice": append(bytes.Clone(good[:entrySize]), append(bytes.Clone(good[:entrySize]), make([]byte, 200)...)...),
		"large": make([]byte, maxTable+1),
	} {
		if _, err := ParseTable(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestVersionNumbersAreComparedOneByOne(t *testing.T) {
	if !TCB(0xdb18000000000004).AtLeast(0xd918000000000004) {
		t.Error("a higher microcode does not reach the floor")
	}
	if TCB(0xdb18000000000003).AtLeast(0xd918000000000004) {
		t.Error("a lower boot loader reaches the floor")
	}
	parts, err := TCB(0x5100000004010101).Parts(Turin)
	if err != nil || parts["fmc"] != 1 || parts["snp"] != 4 || parts["microcode"] != 0x51 {
		t.Errorf("Turin's parts are %v, %v", parts, err)
	}
	if _, err := TCB(0).Parts("Naples"); err == nil {
		t.Error("an unknown product has parts")
	}
}

func FuzzParseReport(f *testing.F) {
	f.Add(make([]byte, ReportSize))
	addVectors(f, "snp/*/*.bin")
	f.Fuzz(func(t *testing.T, b []byte) {
		membound.Check(t, b, func() { _, _ = ParseReport(b) })
		if r, err := ParseReport(b); err == nil && !bytes.Equal(r.Marshal(), b) {
			t.Error("reading and writing changes the report")
		}
	})
}

func FuzzParseTable(f *testing.F) {
	f.Add((&Table{VCEK: []byte("v"), ASK: []byte("a")}).Marshal())
	f.Add(bytes.Repeat([]byte{1}, 64<<10)) // entries only, each of 16 MiB
	f.Fuzz(func(t *testing.T, b []byte) {
		membound.Check(t, b, func() { _, _ = ParseTable(b) })
		tab, err := ParseTable(b)
		if err != nil {
			return
		}
		again, err := ParseTable(tab.Marshal())
		if err != nil || !bytes.Equal(again.VCEK, tab.VCEK) || !bytes.Equal(again.ARK, tab.ARK) {
			t.Errorf("writing and reading changes the table: %v", err)
		}
	})
}

func FuzzParseCertificates(f *testing.F) {
	addVectors(f, "snp/*/*.pem")
	f.Fuzz(func(t *testing.T, b []byte) {
		membound.Check(t, b, func() { _, _ = ParseCertificates(b) })
		if certs, err := ParseCertificates(b); err == nil {
			for _, c := range certs {
				_, _ = parseLeaf(c)
			}
		}
	})
}

func addVectors(f *testing.F, pattern string) {
	names, _ := filepath.Glob(filepath.Join(vectors.Dir(f), pattern))
	for _, n := range names {
		rel, _ := filepath.Rel(vectors.Dir(f), n)
		f.Add(vectors.Read(f, rel))
	}
}

// stride is from one flipped bit to the next: a number that meets every byte or
// its neighbour at changing places, or all of them with OMEGA_EXHAUSTIVE=1, as in CI (a minute).
func stride() int {
	if os.Getenv("OMEGA_EXHAUSTIVE") == "1" {
		return 1
	}
	return 11
}

func flip(b []byte, i int) []byte {
	c := bytes.Clone(b)
	c[i/8] ^= 1 << (i % 8)
	return c
}
