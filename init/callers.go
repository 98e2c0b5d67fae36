package main

import (
	"fmt"
	"time"

	"omega/init/internal/front"
	"omega/policy"
)

// readCallers reads from the measured policy who may talk to the platform.
func readCallers() (*front.Callers, error) {
	b, err := readBounded(policyFile)
	if err != nil {
		return nil, err
	}
	doc, err := policy.ParseJSON(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", policyFile, err)
	}
	return front.NewCallers(doc, time.Now)
}
