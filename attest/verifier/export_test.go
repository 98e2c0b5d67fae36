package verifier

// SetGPUNonce makes the appraisal expect recorded GPU evidence, whose nonce was
// chosen when it was recorded.
func (p *Params) SetGPUNonce(nonce [32]byte) {
	p.gpuNonce = func([32]byte) [32]byte { return nonce }
}
