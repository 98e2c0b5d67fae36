package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"omega/attest"
	"omega/internal/cache"
)

const reproUsage = "[--full] [--against manifest.json] [--policy F] [--roots F] [--json]"

// reproHelp is what `omega repro -h` says beyond its flags.
const reproHelp = `
What is committed (HEAD) is built twice, from clean trees and under conditions
that differ: folder (one has spaces in its path), home, Go's build cache (the
second one is empty), umask, time zone, locale, GOMAXPROCS, order and age of the
files, and, where this machine can, user, clock and number of processors. Every
artifact and manifest.json must come out equal, byte for byte. What could not be
varied is said. On a difference the file inside the artifact is named, both trees
are kept and the exit code is 4.

Kernel, runsc and fetched packages come from the user's cache by the digest of
their inputs, so this takes minutes. --full begins with empty caches twice; that
takes two cold builds (by estimate 40 minutes on two cores, as the first one gets
one of them, and 10 GiB of disk) and a network.

--against builds once and compares artifacts and launch digests with a release's
manifest.json; check out the release's commit first (the manifest's git_tree is
the tree that ` + "`git log --format=raw`" + ` shows of it), and give its policy. Who
signed that file is for ` + "`omega manifest verify`" + ` to check.
`

// reproOptions say what is compared with what.
type reproOptions struct {
	Full    bool
	Against string // manifest.json of a release; "" builds twice
	Policy  string // as for `omega build`
	Roots   string
	JSON    bool
}

func runRepro(ctx context.Context, e *env, args []string) error {
	fs := e.flags("repro")
	var o reproOptions
	fs.BoolVar(&o.Full, "full", false, "begin with empty caches: the kernel and runsc are built twice too (by estimate 40 minutes)")
	fs.StringVar(&o.Against, "against", "", "build once and compare with this `manifest.json` of a release")
	fs.StringVar(&o.Policy, "policy", "", "the policy that the image carries, as for omega build (default: one that permits nothing)")
	fs.StringVar(&o.Roots, "roots", "", "its trust roots, as for omega build")
	fs.BoolVar(&o.JSON, "json", false, "print the result as JSON")
	short := fs.Usage
	fs.Usage = func() { short(); fmt.Fprint(e.Stderr, reproHelp) }
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("repro: unexpected argument %q", fs.Arg(0))
	}
	source, err := sourceRoot()
	if err != nil {
		return err
	}
	c, err := cache.Open("")
	if err != nil {
		return err
	}
	return (&repro{e: e, o: o, source: source, cache: c.Root(), memory: sharedMemory, locale: otherLocale, compile: compileOmega}).run(ctx)
}

// A repro is one run of the verb.
type repro struct {
	e       *env
	o       reproOptions
	source  string                                         // the checkout
	cache   string                                         // the user's cache
	compile func(ctx context.Context, b *reproBuild) error // makes bin/omega in the tree
	memory  string                                         // a folder whose file system lists files in another order
	locale  func(ctx context.Context, work string) locale  // for the second build
	work    string                                         // holds everything that is made here
	// elsewhere holds the second tree, if not work.
	elsewhere string
	result    reproResult
	told      []difference // from a release
}

// reproResult is what --json prints.
type reproResult struct {
	Commit      string         `json:"commit"`
	Full        bool           `json:"full"`
	Varied      []string       `json:"varied"`
	NotVaried   []string       `json:"not_varied"`
	Seconds     []float64      `json:"seconds"` // of each build
	Artifacts   []comparedFile `json:"artifacts,omitempty"`
	Against     string         `json:"against,omitempty"`
	Differences []string       `json:"differences"`
	Kept        string         `json:"kept,omitempty"` // folder of the trees that differ
}

// run builds, compares and cleans up, also when it is interrupted.
func (r *repro) run(ctx context.Context) (err error) {
	release, err := r.release()
	if err != nil {
		return err
	}
	inputs, err := r.o.inputs()
	if err != nil {
		return err
	}
	tree, err := committed(ctx, r.source)
	if err != nil {
		return err
	}
	r.result = reproResult{Commit: tree.commit, Full: r.o.Full, Against: r.o.Against, Differences: []string{}}
	r.e.sayf("what is built is HEAD, %.12s", tree.commit)
	if tree.dirty {
		r.e.sayf("uncommitted changes in %s are left out", r.source)
	}
	if r.work, err = os.MkdirTemp("", "omega-repro-"); err != nil {
		return fmt.Errorf("repro: %w", err)
	}
	if r.elsewhere, err = otherFileSystem(r.memory); err != nil {
		return errors.Join(err, os.RemoveAll(r.work))
	}
	defer func() {
		if r.result.Kept == "" {
			err = errors.Join(err, os.RemoveAll(r.work))
		}
		if r.elsewhere != "" {
			err = errors.Join(err, os.RemoveAll(r.elsewhere))
		}
	}()
	builds, err := r.prepare(ctx, tree, release != nil)
	if err != nil {
		return err
	}
	if release != nil {
		builds[0].profile = release.Predicate.Profile
		sayGo(r.e, release.Predicate.Go, builds[0].goVersion)
	}
	for _, b := range builds {
		b.inputs = inputs
		took, err := b.build(ctx, r.e, r.compile)
		if err != nil {
			return err
		}
		r.result.Seconds = append(r.result.Seconds, took.Seconds())
	}
	if release != nil {
		return r.compareRelease(release, builds)
	}
	return r.compareBuilds(builds)
}

// inputs are the arguments for what the image carries beside the tree. The
// builds run in other folders, so the paths are whole.
func (o reproOptions) inputs() ([]string, error) {
	var args []string
	for _, f := range []struct{ flag, path string }{{"--policy", o.Policy}, {"--roots", o.Roots}} {
		if f.path == "" {
			continue
		}
		path, err := filepath.Abs(f.path)
		if err == nil {
			_, err = os.Stat(path)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.flag, err)
		}
		args = append(args, f.flag, path)
	}
	return args, nil
}

// release reads the manifest to compare with; nil if there is none.
func (r *repro) release() (*attest.Manifest, error) {
	if r.o.Against == "" {
		return nil, nil
	}
	return readManifest(r.o.Against)
}

func readManifest(path string) (*attest.Manifest, error) {
	raw, err := readBounded(path, maxManifestFile)
	if err != nil {
		return nil, err
	}
	m, err := attest.ParseManifest(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// sayGo says beforehand why a build cannot come out as the release did.
func sayGo(e *env, want, got string) {
	if want != got {
		e.sayf("the release was built with %s and this machine has %s: the programs in it will differ", want, got)
	}
}

// compareBuilds compares every artifact of two builds.
func (r *repro) compareBuilds(builds []*reproBuild) error {
	list, err := compareFolders(builds[0].out(), builds[1].out())
	if err != nil {
		return err
	}
	r.result.Artifacts = list
	for _, f := range list {
		for _, d := range f.Differences {
			r.result.Differences = append(r.result.Differences, f.Name+": "+d)
		}
	}
	words := fmt.Sprintf("reproducible: %d artifacts of two builds are equal\n", len(list))
	return r.finish(builds, words, "the two builds differ: this image is not reproducible")
}

// compareRelease compares one build with what a release says of itself.
func (r *repro) compareRelease(release *attest.Manifest, builds []*reproBuild) error {
	built, err := readManifest(filepath.Join(builds[0].out(), "manifest.json"))
	if err != nil {
		return err
	}
	r.told = compareManifests(release, built)
	for _, d := range r.told {
		r.result.Differences = append(r.result.Differences, d.String())
	}
	words := fmt.Sprintf("reproduced: %d artifacts and %d launch digests are those of %s\n",
		len(built.Subject), len(built.Predicate.LaunchDigests), r.o.Against)
	return r.finish(builds, words, fmt.Sprintf("HEAD %.12s does not build the release in %s (- release, + built here); is it the release's commit?",
		r.result.Commit, r.o.Against))
}

// finish prints the result, keeps the trees if something differs, and chooses
// the exit code.
func (r *repro) finish(builds []*reproBuild, good, bad string) error {
	differ := len(r.result.Differences) > 0
	if differ {
		r.result.Kept = r.work
		for _, b := range builds {
			b.thin()
			if err := b.settle(); err != nil {
				return err
			}
		}
	}
	if r.o.JSON {
		if err := json.NewEncoder(r.e.Stdout).Encode(r.result); err != nil {
			return err
		}
	} else {
		r.show()
		if !differ {
			fmt.Fprint(r.e.Stdout, good)
		}
	}
	if !differ {
		return nil
	}
	for _, b := range builds {
		r.e.sayf("kept: %s", b.tree)
	}
	return exit(exitMismatch, errors.New(bad))
}

func (r *repro) show() {
	w := r.e.Stdout
	for _, f := range r.result.Artifacts {
		if len(f.Differences) == 0 {
			fmt.Fprintf(w, "equal    %s  %s\n", f.SHA256[0], f.Name)
			continue
		}
		fmt.Fprintf(w, "DIFFERS  %s\n  first build:  %s\n  second build: %s\n", f.Name, orAbsent(f.SHA256[0]), orAbsent(f.SHA256[1]))
		for _, d := range f.Differences {
			fmt.Fprintf(w, "  %s\n", d)
		}
	}
	if len(r.told) > 0 {
		writeDifferences(w, r.told)
	}
}

func orAbsent(s string) string {
	if s == "" {
		return "(missing)"
	}
	return s
}
