package main

import (
	"fmt"

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
