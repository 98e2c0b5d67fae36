// Package kernel holds what our guest kernel differs in from the pinned source:
// the config fragments, the patches, and the check that no option was dropped.
// It runs no compiler; package images does.
package kernel

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Files is the recipe as this program was built with it.
//
//go:embed config.d/*.config patches/*.patch
var Files embed.FS

// Source is the readable part of the kernel's recipe.
type Source struct {
	Config  []byte   // all fragments, in the order of their names
	Options []string // what they say, sorted, without comments
	Patches []Patch  // in the order of their names
}

// A Patch is one change to the pinned source.
type Patch struct {
	Name string
	Diff []byte
}

// Load reads the recipe from dir, which is Files but in tests. Fragments that
// contradict one another are an error.
func Load(dir fs.FS, fragments []string) (*Source, error) {
	var s Source
	for _, name := range fragments {
		b, err := fs.ReadFile(dir, path.Join("config.d", name+".config"))
		if err != nil {
			return nil, fmt.Errorf("kernel config: %w", err)
		}
		s.Config = append(s.Config, b...)
	}
	options, err := parseFragment(s.Config)
	if err != nil {
		return nil, err
	}
	for _, o := range options {
		s.Options = append(s.Options, o.name+"="+o.value)
	}
	slices.Sort(s.Options)
	names, err := fs.Glob(dir, "patches/*.patch") // Glob sorts
	if err != nil {
		return nil, fmt.Errorf("kernel patches: %w", err)
	}
	for _, name := range names {
		b, err := fs.ReadFile(dir, name)
		if err != nil {
			return nil, fmt.Errorf("kernel patches: %w", err)
		}
		s.Patches = append(s.Patches, Patch{Name: path.Base(name), Diff: b})
	}
	return &s, nil
}

// A line of a fragment or of a .config: set, or said to be off.
var (
	setLine = regexp.MustCompile(`^(CONFIG_[A-Za-z0-9_]+)=(.+)$`)
	offLine = regexp.MustCompile(`^# (CONFIG_[A-Za-z0-9_]+) is not set$`)
)

// off is the value of an option that must not be set.
const off = ""

type option struct{ name, value string }

// parseFragment reads a fragment strictly: every line is an option, a comment
// or empty, and no option is named twice.
func parseFragment(b []byte) ([]option, error) {
	var out []option
	seen := map[string]bool{}
	for i, line := range strings.Split(string(b), "\n") {
		o, ok := parseLine(line)
		switch {
		case ok && seen[o.name]:
			return nil, fmt.Errorf("kernel config: line %d: %s is named twice", i+1, o.name)
		case ok:
			seen[o.name] = true
			out = append(out, o)
		case strings.HasPrefix(line, "# CONFIG_"), line != "" && line[0] != '#':
			return nil, fmt.Errorf("kernel config: line %d: %q is neither an option nor a comment", i+1, line)
		}
	}
	return out, nil
}

func parseLine(line string) (option, bool) {
	if m := offLine.FindStringSubmatch(line); m != nil {
		return option{m[1], off}, true
	}
	if m := setLine.FindStringSubmatch(line); m != nil {
		if m[2] == "n" {
			return option{m[1], off}, true
		}
		return option{m[1], m[2]}, true
	}
	return option{}, false
}

// Check reports every option of the fragments that the finished config does not
// have as they say. Kconfig drops what it cannot satisfy without a word, so a
// build must not go on without this check.
func Check(fragments, config []byte) error {
	want, err := parseFragment(fragments)
	if err != nil {
		return err
	}
	have, err := parseConfig(config)
	if err != nil {
		return err
	}
	var lost []error
	for _, o := range want {
		if got := have[o.name]; got != o.value {
			lost = append(lost, fmt.Errorf("kernel config: %s is %s, the fragment says %s", o.name, word(got), word(o.value)))
		}
	}
	return errors.Join(lost...)
}

// parseConfig reads a finished config, in which Kconfig may write what it likes
// beside options.
func parseConfig(b []byte) (map[string]string, error) {
	have := map[string]string{}
	for line := range bytes.Lines(b) {
		if o, ok := parseLine(strings.TrimSuffix(string(line), "\n")); ok {
			have[o.name] = o.value
		}
	}
	if len(have) == 0 {
		return nil, errors.New("kernel config: the finished config is empty")
	}
	return have, nil
}

func word(value string) string {
	if value == off {
		return "off"
	}
	return value
}
