package main

import (
	"errors"
	"fmt"
	"os"

	"omega/policy"
)

// Files of the measured image. They are read by whichever child needs them, and
// what a child read is checked against the digest that evidence names.
const (
	policyFile = "/etc/omega/policy.json"
	wasmFile   = "/etc/omega/policy.wasm"
	rootsFile  = "/etc/omega/roots.pem"
	shimFile   = "/bin/shim"
	runscFile  = "/bin/runsc"
)

// maxMeasured bounds a policy file: the image is measured, and still a build
// mistake must not end in an exhausted guest.
const maxMeasured = 8 << 20

// measuredPolicy is the agent policy of the image.
type measuredPolicy struct {
	Document *policy.Document
	Wasm     []byte
	Digest   [32]byte
}

// readPolicy reads the policy in the folder that holds etc/omega below root.
func readPolicy(root string) (*measuredPolicy, error) {
	doc, err := readBounded(root + policyFile)
	if err != nil {
		return nil, err
	}
	wasm, err := readBounded(root + wasmFile)
	if err != nil {
		return nil, err
	}
	parsed, err := policy.ParseJSON(doc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", policyFile, err)
	}
	return &measuredPolicy{Document: parsed, Wasm: wasm, Digest: policy.Digest(doc, wasm)}, nil
}

// checkedPolicy is readPolicy for a child that PID 1 told the digest.
func checkedPolicy(want [32]byte) (*measuredPolicy, error) {
	p, err := readPolicy("")
	if err != nil {
		return nil, err
	}
	if p.Digest != want {
		return nil, errors.New("policy: its digest is not the one in the boot claims")
	}
	return p, nil
}

func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxMeasured {
		return nil, fmt.Errorf("%s: %d bytes are more than %d", path, info.Size(), maxMeasured)
	}
	return os.ReadFile(path)
}
