package attest

import "omega/internal/labelhash"

// GPUEvidence is what one GPU gave for a nonce: the SPDM measurement report and
// the certificate chain of its attestation key, PEM with NVIDIA's root.
type GPUEvidence struct {
	Report []byte `json:"report"`
	Chain  []byte `json:"chain"`
}

// GPUDigest is the digest of the evidence of all GPUs, zero of none.
func GPUDigest(all []GPUEvidence) Bytes32 {
	if len(all) == 0 {
		return Bytes32{}
	}
	parts := make([][]byte, 0, 2*len(all))
	for i := range all {
		parts = append(parts, all[i].Report, all[i].Chain)
	}
	return labelhash.Sum256("omega/gpu-evidence/v1", parts...)
}

// GPUBootNonce is the nonce that the GPU is asked with at boot. The boot claims
// name the digest of the answer, so it cannot depend on them.
func GPUBootNonce(bootID [16]byte, attestationKey [32]byte) [32]byte {
	return labelhash.Sum256("omega/gpu-boot-nonce/v1", bootID[:], attestationKey[:])
}

// GPUSessionNonce is the nonce that the GPU is asked with for a session.
func GPUSessionNonce(bootID [16]byte, nonceRoot [32]byte) [32]byte {
	return labelhash.Sum256("omega/gpu-session-nonce/v1", bootID[:], nonceRoot[:])
}
