package attest

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func originSample() *Manifest {
	return &Manifest{
		Type: StatementType, PredicateType: ReleasePredicate, Subject: []Subject{{Name: "kernel"}},
		Predicate: Release{
			Profile: "cpu", SVN: 1, Expires: time.Unix(1<<31, 0).UTC(), PolicyDigest: Bytes32{1},
			LaunchDigests: []LaunchDigest{{VCPUs: 1, CPU: "EPYC-Milan", GuestFeatures: "0x1", Digest: Bytes48{2}}},
			PCRs:          []PCRValue{{"disk", "sha256", 4, strings.Repeat("ab", 32)}, {"direct", "sha384", 11, strings.Repeat("cd", 48)}},
			SBOM:          map[string]Bytes32{"spdx": {3}},
			Revision:      &Revision{strings.Repeat("ab", 20), Bytes32{4}},
			Inputs:        map[string]string{"file:init/main.go": "x"},
		},
	}
}

func TestAManifestSaysWhereItsImageComesFrom(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Release)
		want   string // "" is good
	}{
		{"all values", func(*Release) {}, ""},
		{"none of them", func(r *Release) { r.PCRs, r.SBOM, r.Revision, r.Inputs = nil, nil, nil, nil }, ""},
		{"a short PCR", func(r *Release) { r.PCRs[0].Value = "ab" }, "PCR 4"},
		{"a PCR of another bank's size", func(r *Release) { r.PCRs[1].Bank = "sha256" }, "PCR 11"},
		{"a PCR in capitals", func(r *Release) { r.PCRs[0].Value = strings.Repeat("AB", 32) }, "PCR 4"},
		{"an unknown bank without a value", func(r *Release) { r.PCRs[0].Bank, r.PCRs[0].Value = "sm3", "" }, "PCR 4"},
		{"no register", func(r *Release) { r.PCRs[0].PCR = 24 }, "PCR 24"},
		{"an unknown boot", func(r *Release) { r.PCRs[0].Boot = "network" }, "PCR 4"},
		{"a short revision", func(r *Release) { r.Revision.GitTree = "ab" }, "not a git tree"},
		{"an input without a kind", func(r *Release) { r.Inputs["main.go"] = "x" }, "kind:name"},
		{"a long input", func(r *Release) { r.Inputs["file:a"] = strings.Repeat("x", maxInputText+1) }, "kind:name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := originSample()
			tt.change(&m.Predicate)
			b, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			_, err = ParseManifest(b)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}
