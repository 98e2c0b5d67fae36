package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/rego"

	"omega/agentloader/bundle"
)

func TestThePublishedManifestSchemaIsTheOneOfTheCode(t *testing.T) {
	want, err := manifestSchema()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../docs/agent.schema.json")
	if err != nil || string(got) != string(want) {
		t.Errorf("docs/agent.schema.json is another (%v); `omega bundle schema > docs/agent.schema.json` writes it", err)
	}
}

func TestTheManifestSchemaAgreesWithTheReader(t *testing.T) {
	text, err := manifestSchema()
	if err != nil {
		t.Fatal(err)
	}
	var schema any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	q, err := rego.New(rego.Query("x := json.match_schema(input.document, input.schema)")).PrepareForEval(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d := bundle.DigestOf(nil).String()
	good := `{"version":"omega/agent/v1","name":"notes","image":{"digest":"` + d + `","size":1},"command":["/a"],"env":{"A":"b"},"tools":[{"server":"files","descriptors":"` + d + `"}],
		"models":["small"],"limits":{"memory_bytes":1,"cpu_millis":1,"processes":1},"restart":{"when":"always","max":3},"serve":{"port":8080},
		"model":{"name":"small","digest":"` + d + `","size":1,"root":"` + d + `"},"adapters":[],"data":[{"name":"books","digest":"` + d + `","size":1,"root":"` + d + `"}],"peers":[]}`
	tests := []struct{ name, from, to string }{
		{"as it is", "", ""},
		{"another version", "omega/agent/v1", "omega/agent/v2"},
		{"an unknown field", `"env"`, `"extra":1,"env"`},
		{"a name that climbs", `"notes"`, `"../notes"`},
		{"no command", `["/a"]`, `[]`},
		{"a short digest", d, "sha256:00"},
		{"a model without a root", `,"root":"` + d + `"},"adapters"`, `},"adapters"`},
		{"a restart on another word", "always", "sometimes"},
		{"a port that needs rights", "8080", "80"},
		{"more of a disk than there can be", `"processes":1`, `"processes":1,"io_bytes_per_second":1099511627777`},
		{"text for a number", `"processes":1`, `"processes":"1"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			doc := strings.Replace(good, tt.from, tt.to, 1)
			var value any
			if err := json.Unmarshal([]byte(doc), &value); err != nil {
				t.Fatal(err)
			}
			_, readErr := bundle.ParseManifest([]byte(doc))
			rs, err := q.Eval(t.Context(), rego.EvalInput(map[string]any{"document": value, "schema": schema}))
			if err != nil {
				t.Fatal(err)
			}
			matches := rs[0].Bindings["x"].([]any)[0].(bool)
			if matches != (tt.from == "") || (readErr == nil) != matches {
				t.Errorf("schema: %v, reader: %v\n%v", matches, readErr, rs[0].Bindings["x"])
			}
		})
	}
}
