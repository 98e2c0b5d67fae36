package agentloader

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"omega/agentloader/bundle"
	"omega/agentloader/registry"
)

// candidate is a bundle on its way to being admitted.
type candidate struct {
	loader     *Loader
	repo       *registry.Repository
	deployment *bundle.Deployment

	manifest   *bundle.Manifest
	rule       Agent
	tools      []ToolSet
	components []Component
	image      image
}

// artifact pulls an artifact's manifest and its only layer.
func (c *candidate) artifact(ctx context.Context, d bundle.Digest, artifactType, layerType string, max int64) ([]byte, error) {
	raw, err := c.repo.Manifest(ctx, d, bundle.MaxOCIManifest)
	if err != nil {
		return nil, err
	}
	m, err := bundle.ParseOCIManifest(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", d, ErrMalformed, err)
	}
	layer, err := m.Layer(artifactType, layerType)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", d, ErrMalformed, err)
	}
	return c.repo.Blob(ctx, layer, max)
}

// readManifest pulls agent.json by way of the bundle digest.
func (c *candidate) readManifest(ctx context.Context) error {
	raw, err := c.artifact(ctx, c.deployment.Bundle, bundle.TypeAgent, bundle.TypeManifest, bundle.MaxManifest)
	if err != nil {
		return err
	}
	if c.manifest, err = bundle.ParseManifest(raw); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	rule, ok := c.loader.trust.agents[c.manifest.Name]
	if !ok {
		return fmt.Errorf("%w: %q", ErrUnknown, c.manifest.Name)
	}
	c.rule = rule
	return nil
}

// signatures pulls the sigstore bundles that refer to d. Referrers of other kinds are passed over, and
// so are broken ones: they cannot take a good signature's place, nor spoil it.
func (c *candidate) signatures(ctx context.Context, d bundle.Digest) ([][]byte, error) {
	list, err := c.repo.Referrers(ctx, d)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, r := range list {
		// The list's own artifact types are not to be trusted: registries fill them in differently.
		raw, err := c.artifact(ctx, r, bundle.TypeSigstore, bundle.TypeSigstore, bundle.MaxSignature)
		switch {
		case errors.Is(err, registry.ErrUnavailable) || errors.Is(err, registry.ErrSlow):
			return nil, err
		case err != nil:
			c.loader.cfg.Log.Info("passing over a referrer", "subject", d, "referrer", r, "error", err)
		default:
			out = append(out, raw)
		}
	}
	return out, nil
}

// checkBundle checks every signature that the policy wants on the bundle itself.
func (c *candidate) checkBundle(ctx context.Context) error {
	d := c.deployment.Bundle
	signatures, err := c.signatures(ctx, d)
	if err != nil {
		return err
	}
	for _, r := range c.rule.Requires {
		if r.Role == roleTool {
			continue // signs its descriptors, not the bundle
		}
		key, err := c.loader.trust.vouched(r, c.manifest.Name, d, signatures)
		if err != nil {
			return err
		}
		c.components = append(c.components,
			Component{KindManifest, c.manifest.Name, d, r.Role, r.Principal, key},
			Component{KindImage, c.manifest.Name, c.manifest.Image.Digest, r.Role, r.Principal, key})
	}
	return nil
}

// checkTools checks that each server's descriptors are signed by the server's own principal, and that
// the tool principals that the policy asks for are among them.
func (c *candidate) checkTools(ctx context.Context) error {
	var seen []string
	for _, t := range c.manifest.Tools {
		who, ok := c.loader.trust.servers[t.Server]
		if !ok {
			return fmt.Errorf("%w: policy names no tool server %q", ErrUnknown, t.Server)
		}
		signatures, err := c.signatures(ctx, t.Descriptors)
		if err != nil {
			return err
		}
		key, err := c.loader.trust.vouched(Requirement{roleTool, who}, t.Server, t.Descriptors, signatures)
		if err != nil {
			return err
		}
		raw, err := c.artifact(ctx, t.Descriptors, bundle.TypeTools, bundle.TypeTools, bundle.MaxTools)
		if err != nil {
			return err
		}
		if _, err := bundle.ParseDescriptors(raw); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrMalformed, t.Server, err)
		}
		c.tools = append(c.tools, ToolSet{t.Server, raw})
		c.components = append(c.components, Component{KindTools, t.Server, t.Descriptors, roleTool, who, key})
		seen = append(seen, who)
	}
	for _, r := range c.rule.Requires {
		if r.Role == roleTool && !slices.Contains(seen, r.Principal) {
			return fmt.Errorf("%w: no tool of %s in the bundle, and the policy requires one", ErrUnsigned, r.Principal)
		}
	}
	return nil
}

func (c *candidate) admitted() *Admitted {
	env := map[string]string{}
	for _, from := range []map[string]string{c.image.env, c.manifest.Env} {
		for k, v := range from {
			env[k] = v
		}
	}
	return &Admitted{
		Instance:   c.deployment.Instance,
		Name:       c.manifest.Name,
		Bundle:     c.deployment.Bundle,
		Manifest:   c.manifest,
		ImagePath:  c.image.path,
		Env:        env,
		Dir:        c.image.dir,
		Tools:      c.tools,
		Components: c.components,
	}
}
