package main

import (
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"omega/attest/verifier"
)

// maxAppraisalPolicy bounds the file of an appraisal policy.
const maxAppraisalPolicy = 64 << 10

// loadPolicy reads the appraisal policy for platforms; nil where none is named.
func loadPolicy(path string) (*verifier.Policy, error) {
	if path == "" {
		return nil, nil
	}
	b, err := readBounded(path, maxAppraisalPolicy)
	if err != nil {
		return nil, err
	}
	p, err := verifier.ParsePolicy(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// checkManifestKeys holds a manifest against manifest.dsse.json beside it: one
// of the keys must have signed it.
func checkManifestKeys(path string, manifest []byte, keys [][]byte) error {
	sigPath := strings.TrimSuffix(path, ".json") + ".dsse.json"
	raw, err := readBounded(sigPath, maxManifestFile)
	if err != nil {
		return exit(exitCollateral, fmt.Errorf("signature of the manifest: %w", err))
	}
	err = errors.New("no keys")
	for _, der := range keys {
		if err = verifyManifestEnvelope(raw, manifest, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})); err == nil {
			return nil
		}
	}
	return exit(exitSignature, fmt.Errorf("%s: not signed by a manifest key of the appraisal policy: %w; next: %s", sigPath, err, manifestStep))
}
