// Package evidence appraises the evidence of an NVIDIA GPU offline: the signed
// SPDM measurement report, its certificate chain, the reference integrity
// manifests (RIMs) of driver and VBIOS, and OCSP responses that were handed over
// with them. It takes bytes and a time and returns values.
//
// It does not talk to a GPU, fetch collateral, or know the wall clock, and it
// does not say whether the GPU sits in this machine: on Hopper nothing in a
// report names the guest, so the caller must choose the nonce and own the device.
// Evidence of NVSwitches is not appraised.
package evidence

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Reasons of a refusal. Each error of this package is one of them.
var (
	// ErrFormat: bytes are not what their format allows.
	ErrFormat = errors.New("malformed")
	// ErrSignature: a signature does not verify.
	ErrSignature = errors.New("signature is not valid")
	// ErrChain: certificates do not lead to the pinned root.
	ErrChain = errors.New("certificate chain does not lead to the pinned root")
	// ErrExpired: a certificate is not valid at the time asked for.
	ErrExpired = errors.New("certificate is not valid at this time")
	// ErrRevoked: a certificate was revoked.
	ErrRevoked = errors.New("certificate is revoked")
	// ErrHold: a certificate is suspended.
	ErrHold = errors.New("certificate is on hold")
	// ErrStale: a revocation status is older or newer than policy allows.
	ErrStale = errors.New("revocation status is not current")
	// ErrCollateral: a RIM or a revocation status that is needed is not there.
	ErrCollateral = errors.New("collateral is not available")
	// ErrMismatch: a value differs from what is expected.
	ErrMismatch = errors.New("values differ from what is expected")
)

// maxBinary bounds a text that Binary decodes; no file of evidence comes near.
const maxBinary = 1 << 20

// Binary is the content of a file that may hold bytes as they are, or as one
// text of hex digits or base64. Hex has one case and base64 no loose bits, so
// that a changed text never stands for the same bytes.
func Binary(b []byte) ([]byte, error) {
	if len(b) > maxBinary {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrFormat, len(b), maxBinary)
	}
	text := bytes.TrimRight(b, "\r\n")
	if len(text) == 0 {
		return nil, fmt.Errorf("%w: empty", ErrFormat)
	}
	if only(text, "0123456789abcdef") || only(text, "0123456789ABCDEF") {
		out := make([]byte, hex.DecodedLen(len(text)))
		if _, err := hex.Decode(out, text); err != nil {
			return nil, fmt.Errorf("%w: hex: %w", ErrFormat, err)
		}
		return out, nil
	}
	if only(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\n") {
		out, err := decodeBase64(text)
		if err != nil {
			return nil, fmt.Errorf("%w: base64: %w", ErrFormat, err)
		}
		return out, nil
	}
	return b, nil
}

func only(text []byte, alphabet string) bool {
	for _, c := range text {
		if strings.IndexByte(alphabet, c) < 0 {
			return false
		}
	}
	return true
}

// decodeBase64 refuses trailing bits, so that bytes have one spelling up to line
// ends.
func decodeBase64(text []byte) ([]byte, error) {
	return base64.StdEncoding.Strict().AppendDecode(nil, text)
}
