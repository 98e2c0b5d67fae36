package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"omega/internal/pe/petest"
)

func TestTheSectionOfAProgramThatDiffersIsNamed(t *testing.T) {
	build := func(initrd string) []byte {
		return petest.Image(petest.Section{Name: ".cmdline", Content: []byte("quiet")}, petest.Section{Name: ".initrd", Content: []byte(initrd)})
	}
	got := explain("omega.efi", build("one thing"), build("one tree"))
	if len(got) != 1 || !strings.HasPrefix(got[0], "section .initrd: differs from byte 5") {
		t.Errorf("told %q", got)
	}
	if got := explain("omega.efi", build("x"), []byte("no program")); len(got) != 2 || !strings.Contains(got[1], "second build") {
		t.Errorf("told %q", got)
	}
}

func TestThePlaceInAListThatDiffersIsNamed(t *testing.T) {
	a := `{"packages":[{"name":"a","version":"1"},{"name":"b"}],"same":true}`
	tests := []struct {
		name, b string
		want    []string
	}{
		{"a value", `{"packages":[{"name":"a","version":"2"},{"name":"b"}],"same":true}`, []string{`/packages/0/version: "1" and "2"`}},
		{"a missing value", `{"packages":[{"name":"a"},{"name":"b"}],"same":true}`, []string{`/packages/0/version: "1" and null`}},
		{"a longer list", `{"packages":[],"same":true}`, []string{`/packages: [{"name":"a","version":"1"},{"name":"b"}] and []`}},
		{"the spelling alone", `{"same":true, "packages":[{"name":"a","version":"1"},{"name":"b"}]}`, []string{"differs from byte 2 on (66 bytes and 67 bytes)"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, explain("sbom.spdx.json", []byte(a), []byte(tt.b))); diff != "" {
				t.Error(diff)
			}
		})
	}
}
