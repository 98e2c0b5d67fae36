// Package protocol is a model of the attestation protocol that a machine
// checks: docs/protocol.md says it in words. The model has no code that runs:
// its tests let a small attacker make every move it has, in every order, and
// hand what it composed to attest/verifier, the one that relying parties use.
// Each property must hold in every state, and must be seen to fail when its
// defence is taken away.
//
// It assumes perfect cryptography and says nothing about the guest's code: that
// the signer makes only the statements modelled here is for its own tests.
package protocol
