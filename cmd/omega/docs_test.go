package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	docCommand = regexp.MustCompile(`(?m)(?:^ {4}(?:\$ |# )?|` + "`" + `)omega ([a-z]+(?: [a-z]+)?)([^` + "`" + `\n]*)`)
	docFlag    = regexp.MustCompile(`(?:^|[\s\[(])--([a-z][a-z0-9-]*)`)
)

// Commands in the documentation can be typed as they stand: the verb is one, and
// its flags are flags of it.
func TestTheCommandsOfTheDocumentationExist(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, more := range []string{"*.md", "examples/*/README.md", "examples/*/*/README.md", "kernel/README.md"} {
		found, err := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(more)))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	help, seen := map[string]string{}, 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range docCommand.FindAllStringSubmatch(string(text), -1) {
			verb, rest := strings.Fields(m[1]), m[2]
			seen++
			for _, flag := range docFlag.FindAllStringSubmatch(rest, -1) {
				if !strings.Contains(helpOf(t, help, verb), "--"+flag[1]) {
					t.Errorf("%s: omega %s has no --%s", filepath.Base(file), m[1], flag[1])
				}
			}
			if helpOf(t, help, verb) == "" {
				t.Errorf("%s: there is no omega %s", filepath.Base(file), m[1])
			}
		}
	}
	if seen < 50 {
		t.Errorf("only %d commands were found", seen)
	}
}

// helpOf is what a verb says of itself, with its second word and without.
func helpOf(t *testing.T, known map[string]string, verb []string) string {
	t.Helper()
	name := strings.Join(verb, " ")
	if text, ok := known[name]; ok {
		return text
	}
	if len(verb) > 1 {
		known[name] = helpOf(t, known, verb[:1])
	}
	if code, out, words := omega(t, append(slices.Clone(verb), "--help")...); code == exitOK {
		known[name] += strings.ReplaceAll("\n"+out+words, "\n  -", "\n  --")
	}
	return known[name]
}
