package images

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
)

// peerBlocks say which platforms an image talks to (attest/atls).
var peerBlocks = []string{"OMEGA PEER POLICY", "OMEGA EMULATED PSP ROOT"}

// CheckRoots refuses trust roots that are not a list of certificates, beside
// what says which platforms are peers: a guest that silently skips one trusts
// less than was meant, and one that holds a private key gives it away.
func CheckRoots(b []byte) error {
	n := 0
	for {
		block, rest := pem.Decode(b)
		if block == nil {
			break
		}
		if slices.Contains(peerBlocks, block.Type) {
			b = rest
			continue
		}
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("trust roots: a block is %q, not a certificate", block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("trust roots: certificate %d: %w", n+1, err)
		}
		n++
		b = rest
	}
	if n == 0 {
		return errors.New("trust roots: no certificate")
	}
	return nil
}
