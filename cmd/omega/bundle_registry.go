package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"omega/agentloader/bundle"
)

// errAbsent reports something that a registry does not have or a registry that does not answer.
var errAbsent = errors.New("not available from the registry")

// remoteOptions are those of every request: the user's own registry logins, and no longer than ctx.
func remoteOptions(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
}

// remoteSource reads a repository for bundle.Checker.
type remoteSource struct{ repo name.Repository }

// Manifest implements bundle.Source.
func (s remoteSource) Manifest(ctx context.Context, d bundle.Digest, max int64) ([]byte, error) {
	m, err := remote.Get(s.repo.Digest(d.String()), remoteOptions(ctx)...)
	if err != nil {
		return nil, absent(err)
	}
	if int64(len(m.Manifest)) > max || bundle.DigestOf(m.Manifest) != d {
		return nil, exit(exitMismatch, fmt.Errorf("%s: manifest is too large or has another digest", d))
	}
	return m.Manifest, nil
}

// Blob implements bundle.Source.
func (s remoteSource) Blob(ctx context.Context, d bundle.OCIDescriptor, max int64) ([]byte, error) {
	l, err := remote.Layer(s.repo.Digest(d.Digest.String()), remoteOptions(ctx)...)
	if err != nil {
		return nil, absent(err)
	}
	r, err := l.Compressed()
	if err != nil {
		return nil, absent(err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, max+1))
	if err != nil {
		return nil, absent(err)
	}
	if int64(len(b)) > max || int64(len(b)) != d.Size || bundle.DigestOf(b) != d.Digest {
		return nil, exit(exitMismatch, fmt.Errorf("%s: blob has another size or digest", d.Digest))
	}
	return b, nil
}

// Referrers implements bundle.Source.
func (s remoteSource) Referrers(ctx context.Context, d bundle.Digest) ([]bundle.Digest, error) {
	index, err := remote.Referrers(s.repo.Digest(d.String()), remoteOptions(ctx)...)
	if err != nil {
		return nil, absent(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, absent(err)
	}
	var out []bundle.Digest
	for _, desc := range m.Manifests {
		r, err := bundle.ParseDigest(desc.Digest.String())
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// Legacy returns what lies under the tag of d's signatures in cosign's older form, if anything does.
func (s remoteSource) Legacy(ctx context.Context, d bundle.Digest) ([]byte, error) {
	m, err := remote.Get(s.repo.Tag(bundle.LegacyTag(d)), remoteOptions(ctx)...)
	var t *transport.Error
	if errors.As(err, &t) && t.StatusCode == http.StatusNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, absent(err)
	}
	return m.Manifest, nil
}

// absent gives a registry's errors their exit code.
func absent(err error) error {
	var t *transport.Error
	if errors.As(err, &t) && t.StatusCode == http.StatusNotFound {
		return exit(exitCollateral, fmt.Errorf("%w: %s", errAbsent, t.Request.URL.Redacted()))
	}
	return exit(exitCollateral, fmt.Errorf("%w: %w", errAbsent, err))
}

// rawManifest is a manifest to be pushed byte for byte.
type rawManifest struct {
	raw       []byte
	mediaType types.MediaType
}

// RawManifest implements remote.Taggable.
func (m rawManifest) RawManifest() ([]byte, error) { return m.raw, nil }

// MediaType tells remote.Put what it is.
func (m rawManifest) MediaType() (types.MediaType, error) { return m.mediaType, nil }

// pushManifest pushes an OCI manifest whose blobs are there.
func pushManifest(ctx context.Context, repo name.Repository, raw []byte) (bundle.OCIDescriptor, error) {
	d := bundle.OCIDescriptor{MediaType: bundle.TypeOCIManifest, Digest: bundle.DigestOf(raw), Size: int64(len(raw))}
	err := remote.Put(repo.Digest(d.Digest.String()), rawManifest{raw, types.OCIManifestSchema1}, remoteOptions(ctx)...)
	if err != nil {
		return d, fmt.Errorf("pushing to %s: %w", repo, err)
	}
	return d, nil
}

// pushBlob pushes a blob.
func pushBlob(ctx context.Context, repo name.Repository, b []byte) error {
	if err := remote.WriteLayer(repo, static.NewLayer(b, types.OCILayer), remoteOptions(ctx)...); err != nil {
		return fmt.Errorf("pushing to %s: %w", repo, err)
	}
	return nil
}

// pushArtifact pushes a manifest with the empty config and its one layer.
func pushArtifact(ctx context.Context, repo name.Repository, manifest, layer []byte) (bundle.OCIDescriptor, error) {
	for _, b := range [][]byte{bundle.EmptyConfig(), layer} {
		if err := pushBlob(ctx, repo, b); err != nil {
			return bundle.OCIDescriptor{}, err
		}
	}
	return pushManifest(ctx, repo, manifest)
}
