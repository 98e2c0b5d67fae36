package attest

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestThePublishedSchemaIsThatOfTheTypes fails where a type changes and the
// schema does not. OMEGA_UPDATE=1 writes it anew.
func TestThePublishedSchemaIsThatOfTheTypes(t *testing.T) {
	got, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("..", "docs", "evidence.schema.json")
	if os.Getenv("OMEGA_UPDATE") != "" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/evidence.schema.json is another; OMEGA_UPDATE=1 writes it anew, and a change that old readers refuse needs another version")
	}
}

func TestEveryFactOfTheSchemaIsAboutAFieldThatIsThere(t *testing.T) {
	b, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	for name := range schemaFacts {
		_, field, _ := strings.Cut(name, ".")
		if !bytes.Contains(b, []byte(`"`+field+`": {`)) {
			t.Errorf("%s is no field", name)
		}
	}
}

// Every field has its line in docs/evidence.md, and every field of a line there is one.
func TestThePageOfEvidenceNamesEveryField(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "evidence.md"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]bool{}
	var collect func(v any)
	collect = func(v any) {
		m, _ := v.(map[string]any)
		properties, _ := m["properties"].(map[string]any)
		for name := range properties {
			fields[name] = true
		}
		for _, part := range m {
			collect(part)
		}
	}
	var schema any
	if err := json.Unmarshal(b, &schema); err != nil {
		t.Fatal(err)
	}
	if collect(schema); len(fields) < 40 {
		t.Fatalf("the schema has %d fields", len(fields))
	}
	for name := range fields {
		if !bytes.Contains(text, []byte("`"+name+"`")) && !bytes.Contains(text, []byte(`"`+name+`":`)) {
			t.Errorf("docs/evidence.md does not explain %s", name)
		}
	}
}
