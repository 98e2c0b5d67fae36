package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/rego"

	"omega/attest"
	"omega/attest/verifier"
)

// matches asks OPA's JSON Schema validator, which is not ours.
func matches(t *testing.T, schema, document any) bool {
	t.Helper()
	rs, err := rego.New(rego.Query(`r := json.match_schema(input.document, input.schema)`), rego.Input(map[string]any{"document": document, "schema": schema})).Eval(t.Context())
	if err != nil || len(rs) != 1 {
		t.Fatalf("%d results: %v", len(rs), err)
	}
	out, _ := rs[0].Bindings["r"].([]any)
	ok, _ := out[0].(bool)
	return ok
}

func readJSON(t *testing.T, b []byte) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestTheSchemaAndTheReaderAgree changes the published example, and asks both.
func TestTheSchemaAndTheReaderAgree(t *testing.T) {
	code, printed, words := omega(t, "verify", "schema")
	if code != exitOK {
		t.Fatal(words)
	}
	schema := readJSON(t, []byte(printed))
	b, err := os.ReadFile(filepath.Join("..", "..", "attest", "testdata", "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, of string
		change   func(e map[string]any)
		good     bool
	}{
		{"the example", "evidence", func(map[string]any) {}, true},
		{"the opening", "opening", func(map[string]any) {}, true},
		{"an unknown field", "evidence", func(e map[string]any) { e["more"] = 1 }, false},
		{"another version", "evidence", func(e map[string]any) { e["version"] = "omega/evidence/v2" }, false},
		{"no report", "evidence", func(e map[string]any) { delete(e, "report") }, false},
		{"a report and a known platform", "evidence", func(e map[string]any) { e["platform"] = strings.Repeat("1", 64) }, false},
		{"a known platform", "evidence", func(e map[string]any) {
			for _, name := range []string{"report", "certificates", "boot", "gpu"} {
				delete(e, name)
			}
			e["platform"], e["signature"] = strings.Repeat("1", 64), strings.Repeat("A", 86)+"=="
		}, true},
		{"a short signature of a known platform", "evidence", func(e map[string]any) {
			for _, name := range []string{"report", "certificates", "boot", "gpu"} {
				delete(e, name)
			}
			e["platform"], e["signature"] = strings.Repeat("1", 64), "AAAA"
		}, false},
		{"upper-case hex", "evidence", func(e map[string]any) { e["nonce"].(map[string]any)["nonce"] = strings.Repeat("A", 64) }, false},
		{"base64 that is none", "evidence", func(e map[string]any) { e["report"] = "a-b_" }, false},
		{"an unknown state", "evidence", func(e map[string]any) { e["agents"].([]any)[0].(map[string]any)["state"] = "well" }, false},
		{"an agent that is hidden and shown", "evidence", func(e map[string]any) { e["agents"].([]any)[0].(map[string]any)["hidden"] = strings.Repeat("1", 64) }, false},
		{"a component without a kind", "evidence", func(e map[string]any) {
			delete(e["agents"].([]any)[0].(map[string]any)["components"].([]any)[0].(map[string]any), "kind")
		}, false},
	} {
		e := readJSON(t, b)[tt.of].(map[string]any)
		tt.change(e)
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		_, err = attest.ParseEvidence(text)
		if schemas := matches(t, schema, e); schemas != tt.good || (err == nil) != tt.good {
			t.Errorf("%s: the schema says %v, the reader says %v", tt.name, schemas, err)
		}
	}
	schema["$ref"] = "#/$defs/SignedInvocation"
	if !matches(t, schema, readJSON(t, b)["invocation"]) {
		t.Error("the invocation statement of the example does not match")
	}
}

func TestTheAppraisalPolicysSchemaTakesWhatTheReaderTakes(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "appraisal-policy.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	schema := readJSON(t, b)
	for text, good := range map[string]bool{
		`{"version":"omega/appraisal-policy/v1"}`: true,
		`{"version":"omega/appraisal-policy/v1","report":{"version":"omega/snp-policy/v1","vmpl":0,"platform_info":{"set":["ecc"],"clear":["smt"]}},"min_svn":3,"must_run":["researcher"],"gpu":"required"}`: true,
		`{"version":"omega/appraisal-policy/v2"}`:                 false,
		`{"version":"omega/appraisal-policy/v1","minimum_svn":3}`: false,
		`{"version":"omega/appraisal-policy/v1","min_svn":"3"}`:   false,
	} {
		_, err := verifier.ParsePolicy([]byte(text))
		if schemas := matches(t, schema, readJSON(t, []byte(text))); schemas != good || (err == nil) != good {
			t.Errorf("%s: the schema says %v, the reader says %v", text, schemas, err)
		}
	}
}
