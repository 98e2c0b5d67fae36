package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"omega/agentloader/bundle"
	"omega/internal/strictjson"
)

// runBundleDescriptors pushes a server's pinned tool descriptors.
func runBundleDescriptors(ctx context.Context, e *env, args []string) error {
	fs := e.flags("bundle")
	file := fs.String("file", "", `descriptors: [{"name","description","input_schema"}]`)
	to := fs.String("to", "", "repository: HOST/NAME")
	plain := fs.Bool("plain-http", false, "speak HTTP to a registry that is not on this machine")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := need(fs, "file", "to"); err != nil {
		return err
	}
	raw, err := readBounded(*file, bundle.MaxTools)
	if err != nil {
		return err
	}
	list, err := bundle.ParseDescriptors(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", *file, err)
	}
	repo, err := parseRepo(*to, *plain)
	if err != nil {
		return err
	}
	ref, err := pushDescriptors(ctx, repo, list)
	if err != nil {
		return err
	}
	fmt.Fprintln(e.Stdout, ref)
	return nil
}

// pushDescriptors pushes a server's pinned tool descriptors in canonical form.
func pushDescriptors(ctx context.Context, repo name.Repository, list []bundle.Descriptor) (bundleRef, error) {
	layer, err := bundle.MarshalDescriptors(list)
	if err != nil {
		return bundleRef{}, err
	}
	m, err := bundle.Artifact(bundle.TypeTools, bundle.TypeTools, layer, nil, nil)
	if err != nil {
		return bundleRef{}, err
	}
	d, err := pushArtifact(ctx, repo, m, layer)
	return bundleRef{repo, d.Digest}, err
}

// runBundlePack makes an agent bundle.
func runBundlePack(ctx context.Context, e *env, args []string) error {
	fs := e.flags("bundle")
	manifest := fs.String("manifest", "", "agent.json; its image, and what it leaves out of its files, are filled in")
	image := fs.String("image", "", "a folder that becomes the agent's root, or an OCI layout folder")
	to := fs.String("to", "", "repository: HOST/NAME")
	keyID := fs.String("encrypt", "", "encrypt the image: where the key broker keeps the key, kbs:///REPOSITORY/TYPE/TAG")
	keyFile := fs.String("encrypt-key", "", "with --encrypt: the key, a file of 32 random bytes")
	plain := fs.Bool("plain-http", false, "speak HTTP to a registry that is not on this machine")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := need(fs, "manifest", "image", "to"); err != nil {
		return err
	}
	raw, err := readBounded(*manifest, bundle.MaxManifest)
	if err != nil {
		return err
	}
	var m bundle.Manifest
	if err := strictjson.Decode(raw, &m, strictjson.Limits{MaxBytes: bundle.MaxManifest}); err != nil {
		return fmt.Errorf("%s: %w", *manifest, err)
	}
	repo, err := parseRepo(*to, *plain)
	if err != nil {
		return err
	}
	p := e.progress("packing " + m.Name)
	defer p.Done()
	seal, err := readSealing(*keyID, *keyFile)
	if err != nil {
		return err
	}
	ref, err := packSealed(ctx, repo, m, *image, seal)
	if err != nil {
		return err
	}
	fmt.Fprintln(e.Stdout, ref)
	return nil
}

// packBundle pushes an image and the agent manifest that names it, and returns the bundle.
func packBundle(ctx context.Context, repo name.Repository, m bundle.Manifest, imageDir string) (bundleRef, error) {
	return packSealed(ctx, repo, m, imageDir, nil)
}

// packSealed is packBundle for an image that is encrypted, if seal is not nil.
func packSealed(ctx context.Context, repo name.Repository, m bundle.Manifest, imageDir string, seal *sealing) (bundleRef, error) {
	img, err := pushImage(ctx, repo, imageDir, seal)
	if err != nil {
		return bundleRef{}, err
	}
	m.Version, m.Image = bundle.VersionManifest, bundle.Blob{Digest: img.Digest, Size: img.Size}
	if m.Env == nil {
		m.Env = map[string]string{}
	}
	// Canonical: a list that is left out and an empty one give the same digest.
	m.Tools, m.Models = append([]bundle.Tool{}, m.Tools...), append([]string{}, m.Models...)
	m.Adapters, m.Peers = append([]bundle.File{}, m.Adapters...), append([]bundle.Peer{}, m.Peers...)
	if err := completeFiles(ctx, repo, &m); err != nil {
		return bundleRef{}, err
	}
	layer, err := m.Marshal()
	if err != nil {
		return bundleRef{}, err
	}
	raw, err := bundle.Artifact(bundle.TypeAgent, bundle.TypeManifest, layer, nil, nil)
	if err != nil {
		return bundleRef{}, err
	}
	d, err := pushArtifact(ctx, repo, raw, layer)
	return bundleRef{repo, d.Digest}, err
}

// pushImage pushes a folder as an image of one layer, or the image of an OCI layout as it is.
func pushImage(ctx context.Context, repo name.Repository, dir string, seal *sealing) (bundle.OCIDescriptor, error) {
	if _, err := os.Stat(filepath.Join(dir, "oci-layout")); err == nil {
		if seal != nil {
			return bundle.OCIDescriptor{}, errors.New("an OCI layout is pushed as it is; encrypt it with skopeo, or give a folder")
		}
		img, err := layoutImage(dir)
		if err != nil {
			return bundle.OCIDescriptor{}, err
		}
		return pushLayout(ctx, repo, img)
	}
	layer, config, err := imageOf(dir)
	if err != nil {
		return bundle.OCIDescriptor{}, err
	}
	layer, described, err := seal.apply(layer)
	if err != nil {
		return bundle.OCIDescriptor{}, err
	}
	raw, err := strictjson.Canonical(bundle.OCIManifest{
		SchemaVersion: 2,
		MediaType:     bundle.TypeOCIManifest,
		Config:        bundle.OCIDescriptor{MediaType: typeImageConfig, Digest: bundle.DigestOf(config), Size: int64(len(config))},
		Layers:        []bundle.OCIDescriptor{described},
	})
	if err != nil {
		return bundle.OCIDescriptor{}, err
	}
	for _, b := range [][]byte{layer, config} {
		if err := pushBlob(ctx, repo, b); err != nil {
			return bundle.OCIDescriptor{}, err
		}
	}
	return pushManifest(ctx, repo, raw)
}

// layoutImage finds the image for this platform in an OCI layout (image-spec 1.1, image-layout.md).
func layoutImage(dir string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("OCI layout %s: %w", dir, err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("OCI layout %s: %w", dir, err)
	}
	for _, d := range m.Manifests {
		if d.MediaType.IsImage() && (d.Platform == nil || d.Platform.OS == "linux" && d.Platform.Architecture == "amd64") {
			return index.Image(d.Digest)
		}
	}
	return nil, fmt.Errorf("OCI layout %s: no image for linux on amd64", dir)
}

func pushLayout(ctx context.Context, repo name.Repository, img v1.Image) (bundle.OCIDescriptor, error) {
	raw, err := img.RawManifest()
	if err != nil {
		return bundle.OCIDescriptor{}, err
	}
	d := bundle.OCIDescriptor{MediaType: bundle.TypeOCIManifest, Digest: bundle.DigestOf(raw), Size: int64(len(raw))}
	if _, err := bundle.ParseOCIManifest(raw); err != nil {
		return d, errors.Join(errors.New("the image is not in OCI's own format"), err)
	}
	if err := remote.Write(repo.Digest(d.Digest.String()), img, remoteOptions(ctx)...); err != nil {
		return d, fmt.Errorf("pushing to %s: %w", repo, err)
	}
	return d, nil
}
