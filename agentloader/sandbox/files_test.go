package sandbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAgentsReadTheirFilesAndCannotChangeThem(t *testing.T) {
	s := setUp(t)
	model := filepath.Join(s.dir, "weights")
	// Two blocks and a bit, so that a mapping is not one page.
	if err := os.WriteFile(model, []byte(strings.Repeat("w", 9000)), 0o444); err != nil {
		t.Fatal(err)
	}
	box, err := s.runner.Start(t.Context(), Spec{Instance: "reader", Image: s.image, Command: []string{"/agent", "model"}, Link: link(t),
		Files: []File{{Path: "/models/small", Source: model}, {Path: "/data/books", Source: model}}})
	if err != nil {
		t.Fatal(err)
	}
	if exit := wait(t, box); exit.Code != 0 {
		t.Errorf("exit %+v", exit)
	}
	if b, err := os.ReadFile(model); err != nil || strings.Trim(string(b), "w") != "" {
		t.Errorf("the file was changed: %v", err)
	}
	s.nothingLeft(t)
}
