package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"omega/attest"
	"omega/images"
)

// The places that a difference of two manifests can have.
const (
	diffInput  = "input"       // something that the image is made from
	diffResult = "result"      // what follows from that
	diffLabel  = "label"       // of the manifest alone: nothing measures it
	diffOdd    = "unexplained" // a result whose inputs are all equal
)

// A difference is one value that two manifests do not share.
type difference struct {
	Place string `json:"place"`
	What  string `json:"what"`
	A     string `json:"a"`
	B     string `json:"b"`
}

func (d difference) String() string { return fmt.Sprintf("%s\n  - %s\n  + %s", d.What, d.A, d.B) }

// diffMeasured says why a and b differ: two manifests, or two launch digests
// that the manifest called in has.
func (e *env) diffMeasured(a, b, in string, asJSON bool) error {
	var list []difference
	var err error
	if in != "" {
		list, err = compareLaunches(a, b, in)
	} else {
		list, err = compareManifestFiles(a, b)
	}
	if err != nil {
		return err
	}
	if asJSON {
		if err := json.NewEncoder(e.Stdout).Encode(map[string]any{"differences": append([]difference{}, list...)}); err != nil {
			return err
		}
	} else {
		writeDifferences(e.Stdout, list)
	}
	if len(list) > 0 {
		places := "places"
		if len(list) == 1 {
			places = "place"
		}
		return exit(exitMismatch, fmt.Errorf("they differ in %d %s", len(list), places))
	}
	return nil
}

func compareManifestFiles(a, b string) ([]difference, error) {
	var digest attest.Bytes48
	if digest.UnmarshalText([]byte(strings.ToLower(a))) == nil {
		return nil, errors.New("a launch digest alone does not tell what it is of: name the manifest that has both with --in")
	}
	x, err := readManifest(a)
	if err != nil {
		return nil, err
	}
	y, err := readManifest(b)
	if err != nil {
		return nil, err
	}
	return compareManifests(x, y), nil
}

// compareLaunches compares the machines of two launch digests of one image.
func compareLaunches(a, b, in string) ([]difference, error) {
	m, err := readManifest(in)
	if err != nil {
		return nil, err
	}
	var found [2]*attest.LaunchDigest
	for i, text := range []string{a, b} {
		var digest attest.Bytes48
		if err := digest.UnmarshalText([]byte(strings.ToLower(text))); err != nil {
			return nil, fmt.Errorf("%q: with --in want two launch digests: %w", text, err)
		}
		if found[i] = m.Launch(digest); found[i] == nil {
			return nil, exit(exitMismatch, fmt.Errorf("%s has no machine with launch digest %.16s…: another image, or another vCPU count, CPU model or feature", in, digest))
		}
	}
	var list differences
	x, y := found[0], found[1]
	list.differ(diffInput, "vCPUs", fmt.Sprint(x.VCPUs), fmt.Sprint(y.VCPUs))
	list.differ(diffInput, "CPU model", x.CPU, y.CPU)
	list.differ(diffInput, "guest features", x.GuestFeatures, y.GuestFeatures)
	list.differ(diffInput, "firmware", x.OVMF.String(), y.OVMF.String())
	return list, nil
}

// A differences collects.
type differences []difference

func (l *differences) differ(place, what, a, b string) {
	if a != b {
		*l = append(*l, difference{place, what, a, b})
	}
}

// pairs notes every key of two maps under which they do not agree.
func (l *differences) pairs(place string, a, b map[string]string, what func(key string) string) {
	all := maps.Clone(a)
	maps.Copy(all, b)
	for _, k := range slices.Sorted(maps.Keys(all)) {
		l.differ(place, what(k), orMissing(a, k), orMissing(b, k))
	}
}

func orMissing(m map[string]string, k string) string {
	if v, ok := m[k]; ok {
		return v
	}
	return "(missing)"
}

// compareManifests says in what two manifests differ: first the inputs, then
// what follows from them.
func compareManifests(a, b *attest.Manifest) []difference {
	var l differences
	p, q := &a.Predicate, &b.Predicate
	l.differ(diffInput, "profile", p.Profile, q.Profile)
	l.differ(diffInput, "SVN", fmt.Sprint(p.SVN), fmt.Sprint(q.SVN))
	l.differ(diffInput, "command line", p.Cmdline, q.Cmdline)
	l.differ(diffInput, "policy digest", p.PolicyDigest.String(), q.PolicyDigest.String())
	l.differ(diffInput, "Go", p.Go, q.Go)
	l.pairs(diffInput, textOf(p.Source), textOf(q.Source), func(k string) string { return "source " + k })
	l.inputs(p, q)
	l.machines(a, b)
	l.artifacts(a, b)
	l.computed(a, b)
	l.pairs(diffLabel, revisionOf(p), revisionOf(q), func(k string) string { return k })
	l.differ(diffLabel, "expiry", p.Expires.UTC().String(), q.Expires.UTC().String())
	return l
}

// inputs compares what the images are made from. Programs are left to their
// sources, where the manifests have those.
func (l *differences) inputs(p, q *attest.Release) {
	if (p.Inputs == nil) != (q.Inputs == nil) {
		l.differ(diffInput, "list of inputs", has(p.Inputs), has(q.Inputs))
		return
	}
	x, y := maps.Clone(p.Inputs), maps.Clone(q.Inputs)
	program := func(k, _ string) bool {
		name, ok := strings.CutPrefix(k, images.InputPayload+":")
		return ok && (isProgram(p, name) || isProgram(q, name))
	}
	maps.DeleteFunc(x, program)
	maps.DeleteFunc(y, program)
	l.pairs(diffInput, x, y, inputWords)
}

func has(inputs map[string]string) string {
	if inputs == nil {
		return "(missing: that manifest cannot say what it was made from)"
	}
	return fmt.Sprint(len(inputs), " inputs")
}

// isProgram reports whether the file name of the initramfs is compiled from
// sources that are inputs of their own.
func isProgram(r *attest.Release, name string) bool {
	for k := range r.Inputs {
		if strings.HasPrefix(k, images.InputModule+":"+name+":") {
			return true
		}
	}
	return false
}

// inputWords says in words what an input is.
func inputWords(key string) string {
	kind, name, _ := strings.Cut(key, ":")
	switch kind {
	case images.InputFile:
		return "source file " + name
	case images.InputModule:
		program, module, _ := strings.Cut(name, ":")
		return "Go module " + module + " in " + program
	case images.InputLanguage:
		return "go.mod's Go line of module " + name
	case images.InputCompiler:
		return "Go compiler's " + name
	case images.InputOption:
		return "kernel option " + name
	case images.InputPatch:
		return "kernel patch " + name
	case images.InputEnvironment:
		return "kernel's build environment " + name
	case images.InputTool:
		return "kernel's build tool " + name
	case images.InputPayload:
		return "file " + name + " of the initramfs"
	}
	return key
}

// artifacts compares the files, and notes where no input says why they differ.
func (l *differences) artifacts(a, b *attest.Manifest) {
	x, y := artifactsOf(a), artifactsOf(b)
	causes := slices.Clone(*l)
	changed := func(name string) bool { return x[name] != y[name] }
	all := maps.Clone(x)
	maps.Copy(all, y)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		place := diffResult
		from := artifactInputs[name]
		if name == "kernel" && y["initrd"] == emptyDigest {
			// The initramfs is inside of the kernel.
			from.inputs = slices.Concat(from.inputs, artifactInputs["initrd"].inputs)
		}
		if !from.explain(causes, changed) {
			place = diffOdd
		}
		l.differ(place, "artifact "+name, orMissing(x, name), orMissing(y, name))
	}
}

// emptyDigest is the SHA-256 of nothing.
const emptyDigest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// An origin is what an artifact is made from: the beginnings of the words of
// its inputs, and the artifacts that it contains.
type origin struct{ inputs, parts []string }

// artifactInputs are the origins of all artifacts but the lists of what is
// inside, which follow from anything.
var artifactInputs = map[string]origin{
	"kernel":        {inputs: []string{"kernel", "source linux", "profile"}},
	"kernel.config": {inputs: []string{"kernel", "source linux", "profile"}},
	"initrd":        {inputs: []string{"source file", "Go", "go.mod", "file /", "policy digest", "SVN", "profile", "source ca-certificates"}},
	"cmdline":       {inputs: []string{"command line"}},
	"ovmf":          {inputs: []string{"source ovmf"}},
	"uki":           {inputs: []string{"source systemd-stub"}, parts: []string{"kernel", "initrd", "cmdline"}},
	"disk":          {parts: []string{"uki"}},
}

// explain reports whether a difference follows from one of the causes or from
// a changed part.
func (o origin) explain(causes []difference, changed func(string) bool) bool {
	if o.inputs == nil && o.parts == nil {
		return true
	}
	for _, c := range causes {
		for _, words := range o.inputs {
			if strings.HasPrefix(c.What, words) {
				return true
			}
		}
	}
	return slices.ContainsFunc(o.parts, changed)
}

// writeDifferences tells the differences in the order of cause and effect.
func writeDifferences(w io.Writer, list []difference) {
	if len(list) == 0 {
		fmt.Fprintln(w, "no difference")
		return
	}
	for _, section := range []struct{ place, title string }{
		{diffInput, "inputs that differ:"},
		{diffOdd, "what differs although no input of it is known to (is the build reproducible? `omega repro` tells):"},
		{diffResult, "what follows from that:"},
		{diffLabel, "not measured, so no reason for another measurement:"},
	} {
		title := section.title
		for _, d := range list {
			if d.Place != section.place {
				continue
			}
			if title != "" {
				fmt.Fprintln(w, title)
				title = ""
			}
			fmt.Fprintln(w, d)
		}
	}
}
