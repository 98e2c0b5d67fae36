package main

import (
	"bytes"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAPackageIsMissingUnlessDpkgSaysInstalled(t *testing.T) {
	wanted := []string{"bc", "flex", "gcc"}
	tests := []struct {
		name, status string
		want         []string
	}{
		{"dpkg knows none", "", wanted},
		{"all installed", "bc installed\nflex installed\ngcc installed\n", []string{}},
		{"two architectures of one package", "bc installed\nbc installed\nflex installed\ngcc installed\n", []string{}},
		{"removed, its configuration kept", "bc installed\nflex config-files\ngcc installed\n", []string{"flex"}},
		{"half installed", "bc half-installed\nflex installed\ngcc not-installed\n", []string{"bc", "gcc"}},
		{"another package whose name ends alike", "bc installed\nlibflex installed\ngcc installed\n", []string{"flex"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, missingFrom(wanted, []byte(tt.status))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNobodyIsAskedWithoutATerminal(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	var words bytes.Buffer
	for _, e := range []*env{{Stdin: &bytes.Buffer{}, Stderr: &words}, {Stdin: null, Stderr: &words}} {
		if !e.confirm("Install?") || words.Len() != 0 {
			t.Errorf("asked %q where nobody can answer", &words)
		}
	}
}
