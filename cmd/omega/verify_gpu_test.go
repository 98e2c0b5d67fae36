package main

import (
	"encoding/hex"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"omega/gpu/evidence"
	"omega/internal/vectors"
)

func TestARawGPUReportGivesTheExitCodesOfTheContract(t *testing.T) {
	set := func(name string) string { return filepath.Join(vectors.Dir(t), "nvidia", "h100-550.90.07", name) }
	report, chain := set("test_raw_gpu_attestation_report.dat"), set("test_gpu_attestation_certificate_chain.dat")
	driver, vbios := set("NV_GPU_DRIVER_GH100_550.90.07.xml"), set("NV_GPU_VBIOS_1010_0200_882_96009F0001.xml")
	nonce := "931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb"
	ocsp, err := filepath.Glob(set("*ocsp*"))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range ocsp {
		all = append(all, "--ocsp", f)
	}
	raw := vectors.Read(t, "nvidia", "h100-550.90.07", filepath.Base(report))
	dir := t.TempDir()
	text, flipped := filepath.Join(dir, "report.hex"), filepath.Join(dir, "flipped")
	writeTestFile(t, text, hex.AppendEncode(nil, raw))
	changed := slices.Clone(raw)
	changed[100] ^= 1
	writeTestFile(t, flipped, changed)
	negative := func(name string) string { return filepath.Join(vectors.Dir(t), "nvidia", "rim-negative", name) }

	good := []string{"--report", report, "--chain", chain, "--rim", driver, "--rim", vbios, "--nonce", nonce, "--at", "2025-11-01T00:00:00Z"}
	with := func(more ...string) []string { return slices.Concat(good, more) }
	tests := []struct {
		name string
		args []string
		want int
	}{
		{"the whole set", good, exitOK},
		{"hex instead of raw", with("--report", text), exitOK},
		{"old OCSP responses that nobody requires", with(all...), exitOK},
		{"OCSP required, none given", with("--require", "ocsp"), exitCollateral},
		{"OCSP required, all old", with(append(all, "--require", "ocsp")...), exitCollateral},
		{"something else required", with("--require", "luck"), exitUsage},
		{"another nonce", with("--nonce", strings.Repeat("00", 32)), exitMismatch},
		{"a short nonce", with("--nonce", "00"), exitUsage},
		{"a flipped bit", with("--report", flipped), exitSignature},
		{"an XML file as report", with("--report", driver), exitSignature},
		{"signers of the RIMs have expired", with("--at", "2026-11-01T00:00:00Z"), exitSignature},
		{"a RIM with another signature", with("--rim", negative("incorrect_signature_driver_rim.xml")), exitSignature},
		{"a RIM with another chain", with("--rim", negative("incorrect_cert_chain_driver_rim.xml")), exitSignature},
		{"a RIM that is not there", with("--rim", filepath.Join(dir, "none")), exitCollateral},
		{"no RIM", []string{"--report", report, "--chain", chain, "--nonce", nonce}, exitCollateral},
		{"no chain", []string{"--report", report, "--nonce", nonce}, exitCollateral},
		{"no report", []string{"--chain", chain, "--nonce", nonce}, exitUsage},
		{"a time that is none", with("--at", "now"), exitUsage},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, out, words := omega(t, append([]string{"verify", "gpu"}, tt.args...)...)
			if code != tt.want {
				t.Errorf("exit %d, want %d; stderr %q", code, tt.want, words)
			}
			if tt.name == "the whole set" && !strings.Contains(out, "revocation not checked") {
				t.Errorf("stdout %q does not say that revocation was not checked", out)
			}
		})
	}

	_, out, _ := omega(t, append([]string{"verify", "gpu", "--json"}, good...)...)
	var r evidence.Result
	if err := json.Unmarshal([]byte(out), &r); err != nil || r.Verdict != evidence.VerdictVerified || r.Matched != 33 {
		t.Errorf("JSON: %+v, %v", r, err)
	}
}
