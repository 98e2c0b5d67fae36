package main

import (
	"context"
	"fmt"

	"omega/agentloader/bundle"
)

// maxKeyFile bounds a key file.
const maxKeyFile = 16 << 10

func readKey(path string) (*bundle.PrivateKey, error) {
	text, err := readBounded(path, maxKeyFile)
	if err != nil {
		return nil, err
	}
	key, err := bundle.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	return key, nil
}

// runBundleSign signs a bundle or a component as a principal.
func runBundleSign(ctx context.Context, e *env, args []string) error {
	fs := e.flags("bundle")
	file := fs.String("key", "", "the principal's private key (ECDSA P-256, PEM)")
	role := fs.String("role", "", "author, tool, model, adapter, data or operator")
	principal := fs.String("principal", "", "the principal's name in the policy")
	ref, err := oneRef(fs, args)
	if err != nil {
		return err
	}
	if err := need(fs, "key", "role", "principal"); err != nil {
		return err
	}
	key, err := readKey(*file)
	if err != nil {
		return err
	}
	if err := signRef(ctx, ref, key, bundle.Vouch{Role: *role, Principal: *principal}); err != nil {
		return err
	}
	e.sayf("signed %s as %s %s", ref, *role, *principal)
	return nil
}

// signRef pushes a principal's signature as a referrer of what it signs.
func signRef(ctx context.Context, ref bundleRef, key *bundle.PrivateKey, v bundle.Vouch) error {
	raw, err := remoteSource{ref.repo}.Manifest(ctx, ref.digest, bundle.MaxOCIManifest)
	if err != nil {
		return err
	}
	sig, err := bundle.SignPrincipal(key, ref.digest, v)
	if err != nil {
		return err
	}
	m, err := bundle.SignatureManifest(sig, bundle.OCIDescriptor{
		MediaType: bundle.TypeOCIManifest, Digest: ref.digest, Size: int64(len(raw)),
	})
	if err != nil {
		return err
	}
	_, err = pushArtifact(ctx, ref.repo, m, sig)
	return err
}
