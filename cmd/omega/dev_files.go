package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"

	"omega/agentloader/bundle"
)

// files pushes the model, the adapters and the data sets that lie in the folder, and
// has their principals sign.
func (p *devPublisher) files(ctx context.Context, f devFolder, repo name.Repository, m *bundle.Manifest, by map[string][]bundle.Vouch) error {
	push := func(kind string, file *bundle.File) error {
		if !bundle.ValidName(file.Name) || !file.Digest.IsZero() {
			return fmt.Errorf("agent folder: %s %q: want a name and no digest", kind, file.Name)
		}
		ref, full, err := pushFile(ctx, repo, bundle.FileConfig{Kind: kind, Name: file.Name}, filepath.Join(f.dir, "files", kind, file.Name))
		if err != nil {
			return fmt.Errorf("agent folder: %w", err)
		}
		*file = full
		return p.sign(ctx, ref, by[kind])
	}
	if m.Model != nil {
		if err := push(bundle.KindModel, m.Model); err != nil {
			return err
		}
	}
	for _, list := range []struct {
		kind  string
		files []bundle.File
	}{{bundle.KindAdapter, m.Adapters}, {bundle.KindData, m.Data}} {
		for i := range list.files {
			if err := push(list.kind, &list.files[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// inference names the engine's bundle as it was published last, in the repository
// that the agent shares with it, and has the principal sign whom the agent's rule
// wants.
func (p *devPublisher) inference(ctx context.Context, repo name.Repository, m *bundle.Manifest, by []bundle.Vouch) error {
	if m.Inference == nil {
		return nil
	}
	d, ok := p.engines[m.Inference.Engine]
	if !ok {
		return fmt.Errorf("agent folder: %s uses the engine %q, whose folder must come before it", m.Name, m.Inference.Engine)
	}
	m.Inference.Bundle = d
	return p.sign(ctx, bundleRef{repo, d}, by)
}
