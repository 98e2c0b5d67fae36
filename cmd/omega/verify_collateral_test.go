package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"omega/attest"
	"omega/internal/vectors"
)

// bareEvidence is evidence with a real report of a Turin machine and without
// certificates. Its claims are not what that report binds.
func bareEvidence(t *testing.T, p *platform) string {
	t.Helper()
	raw, err := p.evidence(t.Context(), [32]byte{5})
	if err != nil {
		t.Fatal(err)
	}
	e, err := attest.ParseEvidence(raw)
	if err != nil {
		t.Fatal(err)
	}
	e.Report, e.Certificates = vectors.Read(t, "snp", "turin", "turin_attestation_report.bin"), nil
	if raw, err = e.Marshal(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "evidence.json")
	writeTestFile(t, path, raw)
	return path
}

func TestEvidenceWithoutACertificateIsAppraisedByTheOneThatAMDHas(t *testing.T) {
	p := newPlatform(t)
	block, _ := pem.Decode(vectors.Read(t, "snp", "turin", "turin_vcek.pem"))
	asked := 0
	kds := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		_, _ = w.Write(block.Bytes)
	}))
	t.Cleanup(kds.Close)
	file, cache := bareEvidence(t, p), filepath.Join(t.TempDir(), "kds")
	verify := func(more ...string) (int, *verification, string) {
		args := []string{"verify", file, "--nonce", "05" + strings.Repeat("0", 62), "--manifest", p.manifest, "--manifest-unsigned", "--json", "--kds", kds.URL, "--kds-cache", cache}
		code, out, words := omega(t, append(args, more...)...)
		v := &verification{}
		if err := json.NewDecoder(bytes.NewReader([]byte(out))).Decode(v); err != nil {
			t.Fatalf("%v: %s", err, words)
		}
		return code, v, words
	}
	code, v, words := verify("--offline")
	if code != exitCollateral || asked != 0 || !strings.Contains(words, "run once without --offline") || v.Verdict != attest.VerdictRefused {
		t.Fatalf("offline: exit %d, asked %d times, %s", code, asked, words)
	}
	// The signature is then proven, and the rest is not this platform's.
	for _, more := range [][]string{nil, {"--offline"}} {
		code, v, words = verify(more...)
		if code != exitMismatch || v.status("signature") != attest.Proven || v.status("collateral") != attest.Proven || len(v.Evidence.Certificates) != 0 {
			t.Errorf("%v: exit %d, %s", more, code, words)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	if err := os.RemoveAll(cache); err != nil {
		t.Fatal(err)
	}
	block.Bytes = []byte("no certificate")
	if code, v, words = verify(); code != exitCollateral || v.status("collateral") != attest.Failed {
		t.Errorf("garbage: exit %d, %s", code, words)
	}
}
