package evidence

import (
	"bytes"
	"encoding/hex"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"omega/internal/vectors"
)

// Clocks at which the recorded sets are valid.
var (
	at550     = time.Date(2025, 11, 1, 0, 0, 0, 0, time.UTC)
	at545     = time.Date(2025, 1, 15, 0, 0, 0, 0, time.UTC)
	atGPUOCSP = time.Date(2025, 8, 21, 12, 0, 0, 0, time.UTC)
	atRIMOCSP = time.Date(2025, 10, 24, 18, 0, 0, 0, time.UTC)
)

func file(t testing.TB, name ...string) []byte {
	t.Helper()
	return vectors.Read(t, append([]string{"nvidia"}, name...)...)
}

func binaryFile(t testing.TB, name ...string) []byte {
	t.Helper()
	b, err := Binary(file(t, name...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// h100 is the complete recorded set of driver 550.90.07, without OCSP.
func h100(t testing.TB) (Evidence, Params) {
	t.Helper()
	const dir = "h100-550.90.07"
	e := Evidence{
		Report: binaryFile(t, dir, "test_raw_gpu_attestation_report.dat"),
		Chain:  file(t, dir, "test_gpu_attestation_certificate_chain.dat"),
	}
	p := Params{Roots: NVIDIA(), Now: at550, RIMs: [][]byte{
		file(t, dir, "NV_GPU_DRIVER_GH100_550.90.07.xml"),
		file(t, dir, "NV_GPU_VBIOS_1010_0200_882_96009F0001.xml"),
	}}
	hex.Decode(p.Nonce[:], []byte("931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb"))
	return e, p
}

// h100Old is the recorded set of driver 545.00, which knows no firmware identifier.
func h100Old(t testing.TB) (Evidence, Params) {
	t.Helper()
	const dir = "h100-545.00"
	e := Evidence{Report: binaryFile(t, dir, "attestationReport.txt"), Chain: file(t, dir, "gpuAkCertChain.txt")}
	p := Params{Roots: NVIDIA(), Now: at545, RIMs: [][]byte{
		file(t, dir, "Driver_RIM_test_no_gpu.swidtag"), file(t, dir, "1010_0200_882_96005E0001_test_no_gpu.swidtag"),
	}}
	hex.Decode(p.Nonce[:], []byte("4cff7f5380ead8fad8ec2c531c110aca4302a88f603792801a8ca29ee151af2e"))
	return e, p
}

// responses are all recorded OCSP responses.
func responses(t testing.TB) [][]byte {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(vectors.Dir(t), "nvidia", "h100-550.90.07", "*ocsp*"))
	if err != nil || len(names) != 7 {
		t.Fatalf("OCSP responses: %d, %v", len(names), err)
	}
	var out [][]byte
	for _, n := range names {
		out = append(out, binaryFile(t, "h100-550.90.07", filepath.Base(n)))
	}
	return out
}

func TestRecordedSetsVerify(t *testing.T) {
	for name, set := range map[string]func(testing.TB) (Evidence, Params){"550.90.07": h100, "545.00": h100Old} {
		t.Run(name, func(t *testing.T) {
			e, p := set(t)
			r, err := Appraise(e, p)
			if err != nil || r.Verdict != VerdictVerified {
				t.Fatalf("verdict %q, %v", r.Verdict, err)
			}
			if r.Driver != name || r.Matched != 33 || len(r.Unreferenced) != 31 || len(r.Excepted) != 0 {
				t.Errorf("driver %s, %d matched, %d unreferenced, %d excepted", r.Driver, r.Matched, len(r.Unreferenced), len(r.Excepted))
			}
			if c := find(r, "revocation"); c.Status != NotProven || c.Words != "revocation not checked" {
				t.Errorf("revocation: %+v", c)
			}
			e.Report = append(slices.Clone(e.Report), 0, 0)
			if _, err := Appraise(e, p); err != nil {
				t.Errorf("with zero padding: %v", err)
			}
		})
	}
}

func find(r *Result, name string) Check {
	i := slices.IndexFunc(r.Checks, func(c Check) bool { return c.Name == name })
	if i < 0 {
		return Check{}
	}
	return r.Checks[i]
}

func TestRecordedSetIsRefusedForItsOwnReason(t *testing.T) {
	tests := []struct {
		name string
		set  func(testing.TB) (Evidence, Params)
		edit func(*testing.T, *Evidence, *Params)
		want error
	}{
		{"another nonce", h100, func(_ *testing.T, _ *Evidence, p *Params) { p.Nonce[31] ^= 1 }, ErrMismatch},
		{"no root is trusted", h100, func(_ *testing.T, _ *Evidence, p *Params) { p.Roots.Device = [32]byte{} }, ErrChain},
		{"no RIM root is trusted", h100, func(_ *testing.T, _ *Evidence, p *Params) { p.Roots.RIM = [32]byte{} }, ErrChain},
		{"the signers of the RIMs have expired", h100, func(_ *testing.T, _ *Evidence, p *Params) { p.Now = at550.AddDate(1, 0, 0) }, ErrExpired},
		{"before the certificates", h100, func(_ *testing.T, _ *Evidence, p *Params) { p.Now = at550.AddDate(-9, 0, 0) }, ErrExpired},
		{"no RIMs", h100, func(_ *testing.T, _ *Evidence, p *Params) { p.RIMs = nil }, ErrCollateral},
		{"no driver RIM", h100, func(_ *testing.T, _ *Evidence, p *Params) { p.RIMs = p.RIMs[1:] }, ErrCollateral},
		{"no VBIOS RIM", h100, func(_ *testing.T, _ *Evidence, p *Params) { p.RIMs = p.RIMs[:1] }, ErrCollateral},
		{"VBIOS RIM of another version", h100Old, func(t *testing.T, _ *Evidence, p *Params) {
			p.RIMs[1] = file(t, "rim", "g520_0213_881_96006D0007_PROD.swidtag")
		}, ErrMismatch},
		{"chain of another GPU", h100, func(t *testing.T, e *Evidence, _ *Params) {
			e.Chain = file(t, "h100-545.00", "gpuAkCertChain.txt")
		}, ErrSignature},
		{"chain without its root", h100, func(_ *testing.T, e *Evidence, _ *Params) {
			e.Chain = e.Chain[:bytes.LastIndex(e.Chain, []byte("-----BEGIN"))]
		}, ErrChain},
		{"newer driver demanded", h100, func(_ *testing.T, _ *Evidence, p *Params) { p.Policy.MinDriver = "550.90.08" }, ErrMismatch},
		{"driver floor that is no version", h100, func(_ *testing.T, _ *Evidence, p *Params) { p.Policy.MinDriver = "new" }, ErrMismatch},
		{"VBIOS not allowed", h100, func(_ *testing.T, _ *Evidence, p *Params) { p.Policy.VBIOS = []string{"96.00.9F.00.02"} }, ErrMismatch},
		{"CC mode demanded, not carried", h100, func(_ *testing.T, _ *Evidence, p *Params) { p.Policy.CC = CCRequired }, ErrMismatch},
		{"unknown CC rule", h100, func(_ *testing.T, _ *Evidence, p *Params) { p.Policy.CC = "on" }, ErrMismatch},
		{"only pinned RIMs", h100, func(_ *testing.T, _ *Evidence, p *Params) { p.Policy.PinnedOnly = true }, ErrMismatch},
		{"OCSP demanded, none given", h100, func(_ *testing.T, _ *Evidence, p *Params) { p.Policy.RequireOCSP = true }, ErrCollateral},
		{"OCSP demanded, all stale", h100, func(t *testing.T, _ *Evidence, p *Params) {
			p.Policy.RequireOCSP, p.OCSP = true, responses(t)
		}, ErrStale},
		{"negative: RIM of another generation", h100Old, func(t *testing.T, _ *Evidence, p *Params) {
			p.RIMs[1] = file(t, "rim-negative", "NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml")
		}, ErrMismatch},
		{"negative: RIM with another signature", h100, func(t *testing.T, _ *Evidence, p *Params) {
			p.RIMs = append(p.RIMs, file(t, "rim-negative", "incorrect_signature_driver_rim.xml"))
		}, ErrSignature},
		{"negative: RIM with another chain", h100, func(t *testing.T, _ *Evidence, p *Params) {
			p.RIMs = append(p.RIMs, file(t, "rim-negative", "incorrect_cert_chain_driver_rim.xml"))
		}, ErrChain},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, p := tt.set(t)
			tt.edit(t, &e, &p)
			r, err := Appraise(e, p)
			if !errors.Is(err, tt.want) || r.Verdict != VerdictRefused || r.Checks[len(r.Checks)-1].Status != Failed {
				t.Fatalf("verdict %q, error %v; want %v", r.Verdict, err, tt.want)
			}
			for _, other := range []error{ErrFormat, ErrSignature, ErrChain, ErrExpired, ErrRevoked, ErrHold, ErrStale, ErrCollateral, ErrMismatch} {
				if other != tt.want && errors.Is(err, other) {
					t.Errorf("error %v is also %v", err, other)
				}
			}
		})
	}
}

func TestSeveralRIMsOfOneVersionAreAlternatives(t *testing.T) {
	e, p := h100Old(t)
	p.RIMs = append([][]byte{
		file(t, "rim-negative", "NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml"),
		file(t, "rim", "1010_0200_882_96005E0001_PROD.swidtag"),
	}, p.RIMs...)
	r, err := Appraise(e, p)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.RIMs) != 2 || r.Matched != 33 {
		t.Errorf("RIMs used: %+v, matched %d", r.RIMs, r.Matched)
	}
}

func TestAnExceptionIsToldAndNothingElseIsExcepted(t *testing.T) {
	e, p := h100Old(t)
	p.RIMs[1] = file(t, "rim-negative", "NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml")
	p.Policy.Exceptions = []int{1, 2, 3, 9}
	r, err := Appraise(e, p)
	if err != nil || !slices.Equal(r.Excepted, []int{1, 2, 3, 9}) || r.Matched != 29 {
		t.Errorf("excepted %v, matched %d, %v", r.Excepted, r.Matched, err)
	}
	p.Policy.Exceptions = []int{1, 2, 3, 10}
	if _, err := Appraise(e, p); !errors.Is(err, ErrMismatch) {
		t.Errorf("exception for another index: %v", err)
	}
}

func TestAPinnedRIMOutlivesItsSigner(t *testing.T) {
	e, p := h100(t)
	late := at550.AddDate(1, 0, 0)
	for _, b := range p.RIMs {
		r, err := ParseRIM(b)
		if err != nil {
			t.Fatal(err)
		}
		p.Policy.Pinned = append(p.Policy.Pinned, PinnedRIM{r.SHA256, at550})
	}
	p.Now, p.Policy.PinnedOnly = late, true
	if _, err := Appraise(e, p); err != nil {
		t.Fatalf("pinned: %v", err)
	}
	p.Policy.Pinned[1].VerifiedAt = late
	if _, err := Appraise(e, p); !errors.Is(err, ErrExpired) {
		t.Errorf("pinned when it had expired: %v", err)
	}
}

func TestRecordedOCSPIsGoodInItsWindow(t *testing.T) {
	for _, tt := range []struct {
		name string
		now  time.Time
		want int
	}{{"GPU chain", atGPUOCSP, 3}, {"RIM chains", atRIMOCSP, 4}, {"later", at550, 0}} {
		t.Run(tt.name, func(t *testing.T) {
			e, p := h100(t)
			p.Now, p.OCSP = tt.now, responses(t)
			a, good := appraised(t, e, p), 0
			for _, s := range a.subjects() {
				err := a.status(s)
				if err == nil {
					good++
				} else if !errors.Is(err, ErrStale) {
					t.Errorf("%s: %v", s.cert.Subject.CommonName, err)
				}
			}
			if good != tt.want {
				t.Errorf("%d good, want %d", good, tt.want)
			}
			if c := find(a.r, "revocation"); c.Status != NotProven {
				t.Errorf("partly checked revocation is %s", c.Status)
			}
		})
	}
}

// appraised is an appraisal that has run.
func appraised(t *testing.T, e Evidence, p Params) *appraisal {
	t.Helper()
	c, err := load(&p)
	if err != nil {
		t.Fatal(err)
	}
	a := &appraisal{p: &p, c: c, r: &Result{}}
	if err := a.run(e); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAMachineHasDistinctGPUs(t *testing.T) {
	e, p := h100(t)
	if r, err := AppraiseAll([]Evidence{e}, p); err != nil || len(r) != 1 {
		t.Fatalf("one GPU: %v", err)
	}
	if r, err := AppraiseAll([]Evidence{e, e}, p); !errors.Is(err, ErrMismatch) || r[1].Verdict != VerdictRefused {
		t.Errorf("a GPU twice: %v", err)
	}
	p.Policy.GPUs = 2
	if _, err := AppraiseAll([]Evidence{e}, p); !errors.Is(err, ErrMismatch) {
		t.Errorf("a GPU is missing: %v", err)
	}
	if _, err := AppraiseAll(nil, p); !errors.Is(err, ErrMismatch) {
		t.Errorf("no GPU: %v", err)
	}
}
