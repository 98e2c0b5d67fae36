package attest

import "errors"

// Classes of refusal. Every error of an appraisal is one of them; the command
// line turns each into its exit code.
var (
	// ErrSignature: a signature, a certificate chain or an expiry is not valid.
	ErrSignature = errors.New("signature, chain or expiry is not valid")
	// ErrCollateral: a certificate that is needed is not there.
	ErrCollateral = errors.New("collateral is not available")
	// ErrMismatch: a value differs from what is expected.
	ErrMismatch = errors.New("values differ from what is expected")
)
