package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"omega/images"
	"omega/internal/cache"
	"omega/policy/compile"
)

const buildUsage = "[--profile cpu|cloud|single|debug] [--policy F] [--roots F] [--out DIR] [--sign KEY] [--json]"

// buildOptions say which image to build.
type buildOptions struct {
	Profile string
	Policy  string // "" is the closed policy: nothing is permitted
	Roots   string // PEM; "" is roots.pem beside the policy, else the public ones
	Out     string // "" is build/PROFILE in the source tree
}

func runBuild(ctx context.Context, e *env, args []string) error {
	fs := e.flags("build")
	var o buildOptions
	fs.StringVar(&o.Profile, "profile", "cpu", "which image to build")
	fs.StringVar(&o.Policy, "policy", "", "policy in YAML (default: one that permits nothing)")
	fs.StringVar(&o.Roots, "roots", "", "trust roots of the gateway in PEM (default: roots.pem beside the policy, else the public ones)")
	fs.StringVar(&o.Out, "out", "", "folder for the artifacts (default build/PROFILE)")
	key := fs.String("sign", "", "sign the manifest with this private `key` in PEM: writes manifest.dsse.json")
	asJSON := fs.Bool("json", false, "print the result as JSON")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("build: unexpected argument %q", fs.Arg(0))
	}
	if *key != "" { // told now rather than after the build
		if _, err := readSigningKey(*key); err != nil {
			return err
		}
	}
	a, err := build(ctx, e, o)
	if err != nil {
		return err
	}
	if *key != "" {
		if _, err := signManifest(a.Manifest, *key, time.Now()); err != nil {
			return err
		}
	}
	return e.showBuild(a, *asJSON)
}

// build makes an image and its manifest. Whatever was made before from the same
// inputs is taken from the cache.
func build(ctx context.Context, e *env, o buildOptions) (*images.Artifacts, error) {
	source, err := sourceRoot()
	if err != nil {
		return nil, err
	}
	if o.Profile == "" {
		o.Profile = "cpu"
	}
	if o.Out == "" {
		o.Out = filepath.Join(source, "build", o.Profile)
	}
	if o.Policy == "" {
		o.Policy = filepath.Join(source, "images", "closed.yaml")
	}
	compiled, err := compile.File(o.Policy)
	if err != nil {
		return nil, err
	}
	roots, err := o.trustRoots()
	if err != nil {
		return nil, err
	}
	c, err := cache.Open("")
	if err != nil {
		return nil, err
	}
	a, err := images.Build(ctx, images.Options{
		Source: source, Profile: o.Profile, Out: o.Out, Cache: c, Roots: roots, Report: e.imageSteps,
		Policy: images.Policy{JSON: compiled.JSON, Wasm: compiled.Wasm}, PolicyCompiler: linkedModule("github.com/open-policy-agent/opa"),
	})
	if err != nil {
		return nil, err
	}
	launches, err := launchDigests(a)
	if err != nil {
		return nil, err
	}
	pcrs, err := predictedPCRs(a)
	if err != nil {
		return nil, err
	}
	return a, images.WriteManifest(a, images.Values{PolicyDigest: compiled.Digest, Launches: launches, PCRs: pcrs})
}

// imageSteps shows the progress of package images.
func (e *env) imageSteps(name string) images.Step { return e.progress(name) }

// trustRoots reads the roots that the user names, or those beside the policy;
// nil leaves the choice to package images.
func (o buildOptions) trustRoots() ([]byte, error) {
	path := o.Roots
	if path == "" {
		path = filepath.Join(filepath.Dir(o.Policy), "roots.pem")
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("trust roots: %w", err)
	}
	return b, images.CheckRoots(b)
}

// moduleLine is how go.mod names this module.
var moduleLine = regexp.MustCompile(`(?m)^module omega$`)

// sourceRoot finds the source tree: above the working directory, else above
// the program itself, which make puts into bin/.
func sourceRoot() (string, error) {
	var starts []string
	if dir, err := os.Getwd(); err == nil {
		starts = append(starts, dir)
	}
	if exe, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(exe))
	}
	for _, dir := range starts {
		for {
			if b, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil && moduleLine.Match(b) {
				return dir, nil
			}
			parent := filepath.Dir(dir)
			if parent == dir {
				break
			}
			dir = parent
		}
	}
	return "", errors.New("omega's source tree is not above this folder; an image is built from it")
}
