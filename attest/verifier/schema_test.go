package verifier

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"omega/attest/snp"
)

// TestTheSchemaNamesEveryFieldAndNoOther holds the published schema against the
// types that read a policy.
func TestTheSchemaNamesEveryFieldAndNoOther(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "appraisal-policy.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	type node struct {
		Properties map[string]json.RawMessage `json:"properties"`
		Items      json.RawMessage            `json:"items"`
	}
	parse := func(b []byte) (n node) {
		if err := json.Unmarshal(b, &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	root := parse(b)
	report := parse(root.Properties["report"])
	for name, tt := range map[string]struct {
		schema node
		goType reflect.Type
	}{
		"policy":     {root, reflect.TypeFor[policyFile]()},
		"report":     {report, reflect.TypeFor[snp.Policy]()},
		"min_tcb":    {parse(parse(report.Properties["min_tcb"]).Items), reflect.TypeFor[snp.Floor]()},
		"principals": {parse(parse(root.Properties["principals"]).Items), reflect.TypeFor[PrincipalKeys]()},
		"gpu_report": {parse(root.Properties["gpu_report"]), reflect.TypeFor[GPUPolicy]()},
		"revocation": {parse(root.Properties["revocation"]), reflect.TypeFor[Revocation]()},
	} {
		fields := map[string]bool{}
		for i := range tt.goType.NumField() {
			field, _, _ := strings.Cut(tt.goType.Field(i).Tag.Get("json"), ",")
			fields[field] = true
			if tt.schema.Properties[field] == nil {
				t.Errorf("%s: the schema does not name %s", name, field)
			}
		}
		for field := range tt.schema.Properties {
			if !fields[field] {
				t.Errorf("%s: the schema names %s, which nothing reads", name, field)
			}
		}
	}
}
