package verifier_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"omega/attest"
	"omega/attest/verifier"
	"omega/gpu/evidence"
	"omega/internal/vectors"
)

// h100 is the recorded evidence of an H100, the nonce that it was asked with,
// and the reference values that it meets. Their signers are pinned: they were
// valid when it was recorded.
func h100(t *testing.T) ([]attest.GPUEvidence, [32]byte, *verifier.GPU) {
	t.Helper()
	read := func(name string) []byte { return vectors.Read(t, "nvidia", "h100-550.90.07", name) }
	report, err := evidence.Binary(read("test_raw_gpu_attestation_report.dat"))
	if err != nil {
		t.Fatal(err)
	}
	g := &verifier.GPU{Roots: evidence.NVIDIA(), RIMs: [][]byte{read("NV_GPU_DRIVER_GH100_550.90.07.xml"), read("NV_GPU_VBIOS_1010_0200_882_96009F0001.xml")}}
	for _, rim := range g.RIMs {
		g.Policy.Pinned = append(g.Policy.Pinned, evidence.PinnedRIM{SHA256: sha256.Sum256(rim), VerifiedAt: time.Date(2025, 11, 1, 0, 0, 0, 0, time.UTC)})
	}
	nonce, err := hex.DecodeString("931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb")
	if err != nil {
		t.Fatal(err)
	}
	return []attest.GPUEvidence{{Report: report, Chain: read("test_gpu_attestation_certificate_chain.dat")}}, [32]byte(nonce), g
}

// withGPU is a world whose platform has an H100.
func withGPU(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	gpu, nonce, params := h100(t)
	w.e.Boot.GPU, w.e.Boot.GPUEvidence, w.e.GPU = attest.GPUReady, attest.GPUDigest(gpu), gpu
	w.p.GPU = params
	w.p.SetGPUNonce(nonce)
	return w
}

func TestAGPUThatTheClaimsNameIsAppraised(t *testing.T) {
	fresh := func(w *world) {
		w.e.SessionGPU = w.e.GPU
		w.e.Session.GPUEvidence = attest.GPUDigest(w.e.GPU)
	}
	tests := []struct {
		name   string
		policy string
		change func(*world)
		class  error
		check  string
	}{
		{"recorded evidence", "", func(*world) {}, nil, ""},
		{"a GPU is required", `,"gpu":"required"`, func(*world) {}, nil, ""},
		{"fresh evidence of the same GPU", "", fresh, nil, ""},
		{"no GPU is accepted", `,"gpu":"none"`, func(*world) {}, verifier.ErrMismatch, "gpu"},
		{"a GPU is required and absent", `,"gpu":"required"`, func(w *world) {
			w.e.Boot.GPU, w.e.Boot.GPUEvidence, w.e.GPU = attest.GPUAbsent, attest.Bytes32{}, nil
		}, verifier.ErrMismatch, "gpu"},
		{"a GPU is required and refused", `,"gpu":"required"`, func(w *world) {
			w.e.Boot.GPU, w.e.Boot.GPUEvidence, w.e.GPU = attest.GPURefused, attest.Bytes32{}, nil
		}, verifier.ErrMismatch, "gpu"},
		{"evidence left out", "", func(w *world) { w.e.GPU = nil }, verifier.ErrMismatch, "gpu"},
		{"evidence that the claims do not name", "", func(w *world) { w.e.Boot.GPUEvidence = attest.Bytes32{} }, verifier.ErrMismatch, "gpu"},
		{"other evidence than the claims name", "", func(w *world) { w.e.Boot.GPUEvidence[0]++ }, verifier.ErrMismatch, "gpu"},
		{"one GPU twice", "", func(w *world) {
			w.e.GPU = append(w.e.GPU, w.e.GPU[0])
			w.e.Boot.GPUEvidence = attest.GPUDigest(w.e.GPU)
		}, verifier.ErrMismatch, "gpu"},
		{"no reference values", "", func(w *world) { w.p.GPU = nil }, verifier.ErrCollateral, "gpu"},
		{"reference values of the VBIOS alone", "", func(w *world) { w.p.GPU.RIMs = w.p.GPU.RIMs[1:] }, verifier.ErrCollateral, "gpu"},
		{"evidence for another nonce", "", func(w *world) { w.p.SetGPUNonce([32]byte{1}) }, verifier.ErrMismatch, "gpu"},
		{"a changed report", "", func(w *world) {
			w.e.GPU[0].Report = bytes.Clone(w.e.GPU[0].Report)
			w.e.GPU[0].Report[len(w.e.GPU[0].Report)-1] ^= 1
			w.e.Boot.GPUEvidence = attest.GPUDigest(w.e.GPU)
		}, verifier.ErrSignature, "gpu"},
		{"an older driver than is asked for", "", func(w *world) { w.p.GPU.Policy.MinDriver = "580.1" }, verifier.ErrMismatch, "gpu"},
		{"fresh evidence that nobody named", "", func(w *world) { w.e.SessionGPU = w.e.GPU }, verifier.ErrMismatch, "gpu_session"},
		{"fresh evidence left out", "", func(w *world) { fresh(w); w.e.SessionGPU = nil }, verifier.ErrMismatch, "gpu_session"},
		{"evidence of an absent GPU", "", func(w *world) { w.e.Boot.GPU = attest.GPUAbsent }, verifier.ErrMismatch, "gpu"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := withGPU(t)
			w.p.Policy = policyOf(t, tt.policy)
			tt.change(w)
			w.seal()
			r, err := verifier.Appraise(w.e, w.p)
			if failed(r) != tt.check || !errors.Is(err, tt.class) {
				t.Errorf("%q failed, want %q: %v", failed(r), tt.check, err)
			}
		})
	}
}

// TestTheGPUsNonceIsBoundToTheBoot shows that recorded evidence passes above
// only because its nonce is given: a platform cannot use it.
func TestTheGPUsNonceIsBoundToTheBoot(t *testing.T) {
	w := newWorld(t)
	gpu, _, params := h100(t)
	w.e.Boot.GPU, w.e.Boot.GPUEvidence, w.e.GPU, w.p.GPU = attest.GPUReady, attest.GPUDigest(gpu), gpu, params
	w.seal()
	if r, err := verifier.Appraise(w.e, w.p); !errors.Is(err, verifier.ErrMismatch) || failed(r) != "gpu" {
		t.Errorf("recorded evidence of another machine: %q failed: %v", failed(r), err)
	}
	a, b := [16]byte{1}, [32]byte{2}
	if attest.GPUBootNonce(a, b) == attest.GPUBootNonce(a, [32]byte{3}) || attest.GPUBootNonce(a, b) == attest.GPUBootNonce([16]byte{3}, b) || attest.GPUBootNonce(a, b) == attest.GPUSessionNonce(a, b) {
		t.Error("boots, keys or uses share a nonce")
	}
}
