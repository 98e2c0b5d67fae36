package main

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"os"

	"path/filepath"
	"strings"
	"testing"

	"omega/internal/vectors"
)

func TestAnAppraisalPolicyDecidesAndItsRelaxationsAreNamed(t *testing.T) {
	p := newPlatform(t)
	file, page := filepath.Join(t.TempDir(), "policy.json"), filepath.Join(t.TempDir(), "page.html")
	for _, tt := range []struct {
		name, fields string
		want         int
		out, words   string
	}{
		{"nothing more", "", exitOK, "EMULATED", ""},
		{"an agent that must run and does not", `,"must_run":["demo"]`, exitMismatch, "demo is running", "must_run"},
		{"a config that must be bound", `,"require_bound_config":true`, exitMismatch, "REFUSED", "launch_config"},
		{"a lower SVN than wanted", `,"min_svn":2`, exitMismatch, "REFUSED", "svn"},
		{"a relaxation", `,"report":{"version":"omega/snp-policy/v1","allow_debug":true}`, exitOK, "(allow_debug)", ""},
		{"an unknown field", `,"min_svnn":2`, exitUsage, "", "policy.json"},
	} {
		writeTestFile(t, file, []byte(`{"version":"omega/appraisal-policy/v1"`+tt.fields+`}`))
		code, out, words := omega(t, "verify", p.URL, "--allow-emulated", p.root, "--manifest", p.manifest, "--manifest-unsigned", "--policy", file, "--html", page)
		if code != tt.want || !strings.Contains(out, tt.out) || !strings.Contains(words, tt.words) {
			t.Errorf("%s: exit %d, want %d; stdout %q, stderr %q", tt.name, code, tt.want, out, words)
		}
		if tt.name == "a relaxation" && !strings.Contains(readPage(t, page), "(allow_debug)") {
			t.Error("the page does not name the relaxation")
		}
	}
	args := []string{"verify", p.URL, "--allow-emulated", p.root, "--manifest", p.manifest, "--manifest-unsigned", "--min-svn"}
	for svn, want := range map[string]int{"1": exitOK, "2": exitMismatch, "4294967296": exitUsage} {
		if code, _, words := omega(t, append(args, svn)...); code != want {
			t.Errorf("SVN %s: exit %d, want %d; %s", svn, code, want, words)
		}
	}
	if code, _, _ := omega(t, "verify", p.URL, "--manifest", p.manifest, "--manifest-unsigned", "--policy", file+"x"); code != exitUsage {
		t.Errorf("no policy file: exit %d", code)
	}
}

func TestARelaxedPolicyForARawReportSaysSo(t *testing.T) {
	dir := filepath.Join(vectors.Dir(t), "snp", "turin")
	file := filepath.Join(t.TempDir(), "policy.json")
	writeTestFile(t, file, []byte(`{"version":"omega/snp-policy/v1","allow_migration":true}`))
	code, out, words := omega(t, "verify", "snp", "--report", filepath.Join(dir, "turin_attestation_report.bin"),
		"--vcek", filepath.Join(dir, "turin_vcek.pem"), "--at", "2026-06-01T00:00:00Z", "--policy", file)
	if code != exitOK || !strings.Contains(out, "(allow_migration)") {
		t.Errorf("exit %d, %s%s", code, out, words)
	}
}

func TestThePolicysManifestKeysTakeNoSubstitute(t *testing.T) {
	p := newPlatform(t)
	dir := filepath.Dir(p.manifest)
	manifest, err := os.ReadFile(p.manifest)
	if err != nil {
		t.Fatal(err)
	}
	key := writeKeyPair(t, filepath.Join(dir, "key.pem"))
	other := writeKeyPair(t, filepath.Join(dir, "other.pem"))
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	policy := filepath.Join(dir, "policy.json")
	writeTestFile(t, policy, fmt.Appendf(nil, `{"version":"omega/appraisal-policy/v1","manifest_keys":["%s"]}`, base64.StdEncoding.EncodeToString(der)))
	verify := func(args ...string) int {
		code, _, _ := omega(t, append([]string{"verify", p.URL, "--allow-emulated", p.root, "--manifest", p.manifest, "--policy", policy}, args...)...)
		return code
	}
	if code := verify("--manifest-unsigned"); code != exitCollateral {
		t.Errorf("no signature: exit %d", code)
	}
	writeTestFile(t, filepath.Join(dir, "manifest.dsse.json"), sealManifest(t, other, manifest))
	if code := verify("--manifest-key", filepath.Join(dir, "other.pem")); code != exitSignature {
		t.Errorf("another key: exit %d", code)
	}
	writeTestFile(t, filepath.Join(dir, "manifest.dsse.json"), sealManifest(t, key, manifest))
	if code := verify(); code != exitOK {
		t.Errorf("the policy's key: exit %d", code)
	}
}
