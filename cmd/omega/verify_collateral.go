package main

import (
	"context"
	"slices"

	"omega/attest"
	"omega/attest/snp"
)

// endorsed is the evidence with the certificate that it lacks, if it lacks one
// that AMD's service has, and a check that says where that came from. Evidence
// that cannot be read is left as it is: the verifier says why.
func endorsed(ctx context.Context, e *env, o verifyOptions, evidence *attest.Evidence, roots []snp.Root) (*attest.Evidence, []attest.Check, error) {
	report, err := snp.ParseReport(evidence.Report)
	if err != nil || report.FamilyID == snp.EmulatedFamilyID {
		return evidence, nil, nil
	}
	table, err := snp.ParseTable(evidence.Certificates)
	if err != nil || report.SigningKey == snp.VCEK && len(table.VCEK) > 0 || report.SigningKey == snp.VLEK && len(table.VLEK) > 0 {
		return evidence, nil, nil
	}
	client, err := kdsClient(o)
	if err != nil {
		return nil, nil, err
	}
	bar := e.progress("asking for the certificate of the chip's key")
	bar.Set(0, 0)
	got, err := client.Endorse(ctx, report, roots)
	bar.Done()
	if err != nil {
		return nil, []attest.Check{{
			Name: "collateral", Status: attest.Failed, Expected: "the certificate of the chip's key, from a cache or from AMD", Found: "none", Words: err.Error(),
		}}, exit(exitCollateral, err)
	}
	table.VCEK = got.VCEK
	if got.ASK != nil {
		table.ASK = got.ASK
	}
	whole := *evidence
	whole.Certificates = slices.Clone(table.Marshal())
	return &whole, []attest.Check{{
		Name: "collateral", Status: attest.Proven, Found: got.From,
		Words: "the evidence brought no certificate of the chip's key; this one leads to AMD's root",
	}}, nil
}
