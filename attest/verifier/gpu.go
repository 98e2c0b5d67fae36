package verifier

import (
	"errors"
	"fmt"
	"strings"

	"omega/attest"
	"omega/gpu/evidence"
)

// What an appraisal policy may demand of the GPU. Whatever it says, the
// evidence of a GPU that the claims name is appraised.
const (
	GPUAny      = ""
	GPURequired = "required" // a platform without a ready GPU is refused
	GPUNone     = "none"     // a platform with one is refused
)

// GPU is what the evidence of GPUs is held against.
type GPU struct {
	Roots  evidence.Roots
	RIMs   [][]byte // XML
	OCSP   [][]byte // DER
	Policy evidence.Policy
}

// gpu: absent needs no evidence; a GPU that is ready has evidence of this boot,
// and where the session names more, that too.
func (a *appraisal) gpu() {
	b, demand := &a.e.Boot, GPUAny
	if a.p.Policy != nil {
		demand = a.p.Policy.GPU
	}
	empty := b.GPUEvidence.IsZero() && a.e.Session.GPUEvidence.IsZero() && len(a.e.GPU) == 0 && len(a.e.SessionGPU) == 0
	c := attest.Check{Name: "gpu", Expected: "no GPU evidence", Found: b.GPU}
	if !empty {
		c.Found += " with evidence"
	}
	switch {
	case demand == GPURequired && b.GPU != attest.GPUReady:
		c.Expected, c.Words = "a GPU that is ready", "the appraisal policy requires a GPU in confidential-computing mode"
		a.compare(false, c)
	case b.GPU == attest.GPUAbsent:
		c.Words = "the platform uses no GPU"
		a.compare(empty, c)
	case b.GPU == attest.GPURefused:
		c.Words = "the host attached a GPU; the platform refused it and does not use it"
		a.compare(empty, c)
	case b.GPU != attest.GPUReady:
		c.Expected, c.Found, c.Words = "a GPU that is absent, refused or ready", fmt.Sprintf("%.20q", b.GPU), "the state of the GPU is not known"
		a.compare(false, c)
	case demand == GPUNone:
		c.Expected, c.Words = "a platform without a GPU", "the appraisal policy accepts no GPU"
		a.compare(false, c)
	default:
		a.readyGPU()
	}
}

// readyGPU appraises the evidence that the claims and the session name.
func (a *appraisal) readyGPU() {
	b, s := &a.e.Boot, &a.e.Session
	if a.report != nil {
		boot := a.gpus("gpu", a.e.GPU, b.GPUEvidence, attest.GPUBootNonce(b.BootID, b.AttestationKey))
		if boot == nil {
			return
		}
		if s.GPUEvidence.IsZero() {
			a.compare(len(a.e.SessionGPU) == 0, attest.Check{Name: "gpu_session",
				Expected: "none, as the session says", Found: fmt.Sprintf("evidence of %d GPUs", len(a.e.SessionGPU)), Words: "no fresh evidence of the GPU was asked for"})
			return
		}
		now := a.gpus("gpu_session", a.e.SessionGPU, s.GPUEvidence, attest.GPUSessionNonce(b.BootID, s.NonceRoot))
		if now != nil {
			a.compare(sameGPUs(boot, now), attest.Check{Name: "gpu_identity", Expected: "the GPUs of this boot: " + serials(boot), Found: serials(now), Words: "the GPUs are those that the boot began with"})
		}
		return
	}
	a.add(attest.Check{Name: "gpu", Status: attest.Proven, Found: b.GPU, Words: "the evidence of the GPU at boot is the one that you appraised"})
	if !s.GPUEvidence.IsZero() {
		a.gpus("gpu_session", a.e.SessionGPU, s.GPUEvidence, attest.GPUSessionNonce(b.BootID, s.NonceRoot))
	}
}

// gpus appraises the evidence of all GPUs for one nonce; nil if it is refused.
func (a *appraisal) gpus(name string, all []attest.GPUEvidence, want attest.Bytes32, nonce [32]byte) []*evidence.Result {
	c := attest.Check{Name: name, Expected: want.String(), Found: attest.GPUDigest(all).String()}
	if want.IsZero() || attest.GPUDigest(all) != want {
		c.Words = "the evidence of the GPU is not the one that the claims name"
		a.compare(false, c)
		return nil
	}
	if a.p.GPU == nil {
		a.refuse(fmt.Errorf("%w: the platform uses a GPU: give NVIDIA's reference values with --rim, for the driver and the VBIOS", ErrCollateral), c)
		return nil
	}
	if a.p.gpuNonce != nil {
		nonce = a.p.gpuNonce(nonce)
	}
	in := make([]evidence.Evidence, len(all))
	for i, g := range all {
		in[i] = evidence.Evidence{Report: g.Report, Chain: g.Chain}
	}
	g := a.p.GPU
	results, err := evidence.AppraiseAll(in, evidence.Params{Nonce: nonce, Roots: g.Roots, Now: a.p.Now, RIMs: g.RIMs, OCSP: g.OCSP, Policy: g.Policy})
	if err != nil {
		a.refuse(gpuClass(err), c)
		return nil
	}
	for i, r := range results {
		for _, gc := range r.Checks {
			if gc.Status == evidence.NotProven {
				a.say(name, gc.Name+": "+gc.Words)
			}
		}
		a.add(attest.Check{Name: name, Status: attest.Proven, Found: fmt.Sprintf("%s, serial %s, driver %s, VBIOS %s", r.Device, r.Serial, r.Driver, r.VBIOS),
			Words: fmt.Sprintf("GPU %d is NVIDIA's, and runs what the reference values name; nothing in its report says in which machine it sits", i)})
	}
	return results
}

func sameGPUs(a, b []*evidence.Result) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].KeyDigest != b[i].KeyDigest {
			return false
		}
	}
	return true
}

// serials names GPUs in words.
func serials(all []*evidence.Result) string {
	names := make([]string, len(all))
	for i, r := range all {
		names[i] = "serial " + r.Serial
	}
	return strings.Join(names, ", ")
}

// gpuClass gives a refusal of GPU evidence its class here.
func gpuClass(err error) error {
	for _, class := range []struct {
		of   error
		many []error
	}{
		{ErrMismatch, []error{evidence.ErrMismatch}},
		{ErrCollateral, []error{evidence.ErrCollateral, evidence.ErrStale}},
	} {
		for _, e := range class.many {
			if errors.Is(err, e) {
				return fmt.Errorf("%w: GPU: %w", class.of, err)
			}
		}
	}
	return fmt.Errorf("%w: GPU: %w", ErrSignature, err)
}
