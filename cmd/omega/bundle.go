package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"omega/agentloader/bundle"
)

// bundleUsage is the one line of `omega bundle`'s arguments.
const bundleUsage = "key --out F | descriptors --file F --to REPO | model|adapter|data --file F --name N [--base DIGEST] --to REPO | disk --file F --out F | pack --manifest F --image DIR --to REPO | sign --key F --role R --principal P REF | verify --policy F REF | inspect REF | layout --out F REF … | schema | deployment|removal --key F --instance I --audience A --serial N REF"

// runBundle is `omega bundle`: makes, signs and checks agent bundles in an OCI registry.
func runBundle(ctx context.Context, e *env, args []string) error {
	actions := []struct {
		name string
		run  func(context.Context, *env, []string) error
	}{
		{"key", runBundleKey},
		{"descriptors", runBundleDescriptors},
		{"model", runBundleFile(bundle.KindModel)},
		{"adapter", runBundleFile(bundle.KindAdapter)},
		{"data", runBundleFile(bundle.KindData)},
		{"disk", runBundleDisk},
		{"pack", runBundlePack},
		{"sign", runBundleSign},
		{"verify", runBundleVerify},
		{"inspect", runBundleInspect},
		{"layout", runBundleLayout},
		{"schema", runBundleSchema},
		{"deployment", runBundleOrder("deployment", order.deployment)},
		{"removal", runBundleOrder("removal", order.removal)},
	}
	if len(args) > 0 {
		for _, a := range actions {
			if a.name == args[0] {
				return a.run(ctx, e, args[1:])
			}
		}
		if args[0] == "-h" || args[0] == "--help" {
			e.flags("bundle").Usage()
			return flag.ErrHelp
		}
	}
	return fmt.Errorf("bundle: want one of %s", bundleUsage)
}

// A bundleRef is something in a registry, by digest.
type bundleRef struct {
	repo   name.Repository
	digest bundle.Digest
}

// String returns HOST/REPOSITORY@DIGEST.
func (r bundleRef) String() string { return r.repo.Name() + "@" + r.digest.String() }

// parseRepo reads a repository's name. Plain HTTP is for registries on this machine, and by request.
func parseRepo(s string, plain bool) (name.Repository, error) {
	var options []name.Option
	if plain {
		options = append(options, name.Insecure)
	}
	repo, err := name.NewRepository(s, options...)
	if err != nil {
		return repo, fmt.Errorf("repository %q: %w", s, err)
	}
	return repo, nil
}

// parseRef reads HOST/REPOSITORY@DIGEST. Tags are refused: what they name may change.
func parseRef(s string, plain bool) (bundleRef, error) {
	repository, digits, ok := strings.Cut(s, "@")
	if !ok {
		return bundleRef{}, fmt.Errorf("%q names no digest; want HOST/REPOSITORY@sha256:…", s)
	}
	d, err := bundle.ParseDigest(digits)
	if err != nil {
		return bundleRef{}, err
	}
	repo, err := parseRepo(repository, plain)
	return bundleRef{repo, d}, err
}

// oneRef parses a verb's flags and its only argument.
func oneRef(fs *flag.FlagSet, args []string) (bundleRef, error) {
	plain := fs.Bool("plain-http", false, "speak HTTP to a registry that is not on this machine")
	if err := fs.Parse(args); err != nil {
		return bundleRef{}, err
	}
	if fs.NArg() != 1 {
		return bundleRef{}, errors.New("bundle: want one HOST/REPOSITORY@sha256:…")
	}
	return parseRef(fs.Arg(0), *plain)
}

// need reports the first flag that was left empty.
func need(fs *flag.FlagSet, names ...string) error {
	for _, n := range names {
		if fs.Lookup(n).Value.String() == "" {
			return fmt.Errorf("omega bundle %s: --%s is missing", fs.Name(), n)
		}
	}
	return nil
}

// runBundleKey makes a principal's key pair.
func runBundleKey(_ context.Context, e *env, args []string) error {
	fs := e.flags("bundle")
	out := fs.String("out", "", "file for the private key; the public one gets .pub behind it")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := need(fs, "out"); err != nil {
		return err
	}
	key, err := bundle.GenerateKey()
	if err != nil {
		return err
	}
	private, err := key.MarshalPEM()
	if err != nil {
		return err
	}
	public, err := key.PublicPEM()
	if err != nil {
		return err
	}
	// Never over an old key: what it signed would be lost.
	if err := writeNew(*out, private, 0o600); err != nil {
		return err
	}
	if err := writeNew(*out+".pub", public, 0o644); err != nil {
		return err
	}
	pub, err := key.Public()
	if err != nil {
		return err
	}
	fmt.Fprintln(e.Stdout, pub.ID)
	return nil
}
