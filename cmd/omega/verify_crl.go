package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"omega/attest"
	"omega/attest/collateral"
	"omega/attest/snp"
	"omega/attest/verifier"
)

// kdsClient asks AMD's service, or the mirror and the cache that o names.
func kdsClient(o verifyOptions) (*collateral.Client, error) {
	client := &collateral.Client{Base: o.KDS, Dir: o.KDSCache, Offline: o.Offline}
	if client.Dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("cache folder: %w", err)
		}
		client.Dir = filepath.Join(base, "omega", "kds")
	}
	return client, nil
}

// revocations is AMD's revocation list for the key that signed the report: one
// that is kept, or with --crl one that must be had. Without it there is none, and
// the verifier says so.
func revocations(ctx context.Context, o verifyOptions, evidence *attest.Evidence, roots []snp.Root, now time.Time) (*snp.CRL, error) {
	report, err := snp.ParseReport(evidence.Report)
	if err != nil || report.FamilyID == snp.EmulatedFamilyID {
		return nil, nil // the verifier says what this is
	}
	product, err := report.Product()
	if err != nil {
		return nil, nil
	}
	client, err := kdsClient(o)
	if err != nil {
		return nil, err
	}
	for i := range roots {
		if roots[i].Product != product {
			continue
		}
		if !o.CRL {
			if kept := client.KeptRevocations(report.SigningKey, &roots[i], now); kept != nil {
				return kept.CRL, nil
			}
			return nil, nil
		}
		got, err := client.Revocations(ctx, report.SigningKey, &roots[i], now)
		if err != nil {
			return nil, exit(exitCollateral, err)
		}
		return got.CRL, nil
	}
	return nil, nil
}

// readCRL reads a revocation list by name; an empty name is none.
func readCRL(path string) (*snp.CRL, error) {
	if path == "" {
		return nil, nil
	}
	b, err := readBounded(path, 64<<10)
	if err != nil {
		return nil, err
	}
	c, err := snp.ParseCRL(b)
	if err != nil {
		return nil, verifier.Malformed(attest.ErrSignature, "list of revoked certificates "+path, err)
	}
	return c, nil
}
