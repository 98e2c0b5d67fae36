package attest

import (
	"bytes"
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
