package bundle

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
)

// A Source is where a bundle lies. It is not believed: what it gives is checked against the digest
// that was asked for, by the Source itself.
type Source interface {
	Manifest(ctx context.Context, d Digest, max int64) ([]byte, error)
	Blob(ctx context.Context, d OCIDescriptor, max int64) ([]byte, error)
	// Referrers lists what may refer to d; the manifests that it names are read, the list is not trusted.
	Referrers(ctx context.Context, d Digest) ([]Digest, error)
}

// ErrMalformed reports a part of a bundle that is not what it should be.
var ErrMalformed = errors.New("malformed")

// Component is one part of an agent and who vouches for it.
type Component struct {
	Kind, Name      string
	Digest          Digest
	Role, Principal string
	// Signatures are the principal's, by different keys: all that counted.
	Signatures []Signed
}

// KeyIDs are the IDs of the keys that signed.
func (c *Component) KeyIDs() []string {
	var out []string
	for _, s := range c.Signatures {
		out = append(out, s.KeyID)
	}
	return out
}

// The kinds of components.
const (
	KindManifest = "manifest"
	KindImage    = "image"
	KindPeer     = "peer"
	KindTools    = "tool-descriptors"
	KindEngine   = "engine"
)

// ToolSet is a server's pinned tool descriptors, as they were signed.
type ToolSet struct {
	Server      string
	Descriptors []byte
}

// Checked is a bundle with everything but its image read and every required signature found good.
type Checked struct {
	Bundle     Digest
	Manifest   *Manifest
	Tools      []ToolSet
	Files      []Part
	Components []Component
}

// Check reads the bundle of that digest and checks every signature that the policy requires. When
// it fails after the agent manifest was read, it returns that manifest with the error.
func (c *Checker) Check(ctx context.Context, from Source, d Digest) (*Checked, error) {
	out := &Checked{Bundle: d}
	m, err := ReadManifest(ctx, from, d)
	if err != nil {
		return out, err
	}
	out.Manifest = m
	rule, ok := c.agents[m.Name]
	if !ok {
		return out, fmt.Errorf("agent %q: %w", m.Name, ErrUnknown)
	}
	if err := c.checkBundle(ctx, from, rule, out); err != nil {
		return out, err
	}
	if err := c.checkTools(ctx, from, rule, out); err != nil {
		return out, err
	}
	if err := c.checkFiles(ctx, from, rule, out); err != nil {
		return out, err
	}
	if err := c.checkEngine(ctx, from, rule, out); err != nil {
		return out, err
	}
	return out, combined(rule, out.Components)
}

// combined refuses a component of a principal that may not be together with the others.
func combined(rule AgentRule, list []Component) error {
	for _, part := range list {
		if len(rule.Combine) > 0 && !slices.Contains(rule.Combine, part.Principal) {
			return fmt.Errorf("%w: components of %s may not be part of agent %q", ErrUnknown, part.Principal, rule.Name)
		}
	}
	return nil
}

// ReadManifest reads the agent manifest of a bundle, and checks no signature.
func ReadManifest(ctx context.Context, from Source, d Digest) (*Manifest, error) {
	raw, err := artifact(ctx, from, d, TypeAgent, TypeManifest, MaxManifest)
	if err != nil {
		return nil, err
	}
	m, err := ParseManifest(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return m, nil
}

// Claims lists what the signatures on d say, and verifies none of them: it is for people who look.
func Claims(ctx context.Context, from Source, d Digest) ([]Vouch, error) {
	sigs, err := readSignatures(ctx, from, d)
	if err != nil {
		return nil, err
	}
	var out []Vouch
	for _, raw := range sigs.raw {
		var v Vouch
		env, err := parseSigstore(raw)
		if err != nil {
			continue
		}
		if _, err := parseStatement(env.Payload, PredicatePrincipal, &v); err == nil {
			out = append(out, v)
		}
	}
	return out, nil
}

// checkBundle checks every signature that the policy wants on the bundle itself.
func (c *Checker) checkBundle(ctx context.Context, from Source, rule AgentRule, out *Checked) error {
	sigs, err := readSignatures(ctx, from, out.Bundle)
	if err != nil {
		return err
	}
	for _, r := range rule.Requires {
		if ofComponent(r.Role) || r.Role == RoleEngine && out.Manifest.Engine == nil {
			continue // signs its own, not the bundle
		}
		by, err := c.vouched(r, out.Manifest.Name, out.Bundle, sigs)
		if err != nil {
			return err
		}
		out.Components = append(out.Components,
			Component{KindManifest, out.Manifest.Name, out.Bundle, r.Role, r.Principal, by},
			Component{KindImage, out.Manifest.Name, out.Manifest.Image.Digest, r.Role, r.Principal, by})
		for _, p := range out.Manifest.Peers {
			out.Components = append(out.Components, Component{KindPeer, p.Name, p.meant(), r.Role, r.Principal, by})
		}
	}
	if len(out.Components) == 0 { // a rule for engines, and a bundle that is none
		return fmt.Errorf("%w: nobody signs the bundle itself", ErrUnsigned)
	}
	return nil
}

// checkTools checks that each server's descriptors are signed by the server's own principal, and that
// the tool principals that the policy asks for are among them.
func (c *Checker) checkTools(ctx context.Context, from Source, rule AgentRule, out *Checked) error {
	var seen []string
	for _, t := range out.Manifest.Tools {
		who, ok := c.servers[t.Server]
		if !ok {
			return fmt.Errorf("tool server %q: %w", t.Server, ErrUnknown)
		}
		if err := c.checkTool(ctx, from, t, who, out); err != nil {
			return err
		}
		seen = append(seen, who)
	}
	for _, r := range rule.Requires {
		if r.Role == RoleTool && !slices.Contains(seen, r.Principal) {
			return fmt.Errorf("%w: the policy requires a tool of %s, and the bundle has none", ErrUnsigned, r.Principal)
		}
	}
	return nil
}

func (c *Checker) checkTool(ctx context.Context, from Source, t Tool, who string, out *Checked) error {
	sigs, err := readSignatures(ctx, from, t.Descriptors)
	if err != nil {
		return err
	}
	by, err := c.vouched(Requirement{RoleTool, who}, t.Server, t.Descriptors, sigs)
	if err != nil {
		return err
	}
	raw, err := artifact(ctx, from, t.Descriptors, TypeTools, TypeTools, MaxTools)
	if err != nil {
		return err
	}
	if _, err := ParseDescriptors(raw); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrMalformed, t.Server, err)
	}
	out.Tools = append(out.Tools, ToolSet{t.Server, raw})
	out.Components = append(out.Components, Component{KindTools, t.Server, t.Descriptors, RoleTool, who, by})
	return nil
}

// artifact reads an artifact's manifest and its only layer.
func artifact(ctx context.Context, from Source, d Digest, artifactType, layerType string, max int64) ([]byte, error) {
	raw, err := from.Manifest(ctx, d, MaxOCIManifest)
	if err != nil {
		return nil, err
	}
	m, err := ParseOCIManifest(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", d, ErrMalformed, err)
	}
	layer, err := m.Layer(artifactType, layerType)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", d, ErrMalformed, err)
	}
	return from.Blob(ctx, layer, max)
}

// signatures are the sigstore bundles that refer to something, and its signatures in cosign's older form.
type signatures struct {
	raw     [][]byte
	legacy  []legacySignature
	skipped error // why others could not be read
}

// verified goes through what each signature about digest says, if it is one by one of keys.
func (s *signatures) verified(digest Digest, keys []Key) iter.Seq2[Signed, error] {
	return func(yield func(Signed, error) bool) {
		for _, raw := range s.raw {
			if !yield(VerifyBundle(raw, digest, keys)) {
				return
			}
		}
		for _, l := range s.legacy {
			if !yield(VerifyLegacy(l.payload, l.sig, digest, keys)) {
				return
			}
		}
	}
}

// maxReferrers bounds the work that a list of referrers can cause.
const maxReferrers = 64

// readSignatures reads the sigstore bundles that refer to d. Referrers of other kinds and broken ones
// are passed over: they cannot take a good signature's place, nor spoil it.
func readSignatures(ctx context.Context, from Source, d Digest) (signatures, error) {
	list, err := from.Referrers(ctx, d)
	if err != nil {
		return signatures{}, err
	}
	if len(list) > maxReferrers {
		return signatures{}, fmt.Errorf("%s: %w: %d referrers, at most %d", d, ErrMalformed, len(list), maxReferrers)
	}
	var out signatures
	for _, r := range list {
		// The list's own artifact types say nothing: registries fill them in differently.
		raw, err := artifact(ctx, from, r, TypeSigstore, TypeSigstore, MaxSignature)
		if ctx.Err() != nil {
			return signatures{}, err
		}
		if err != nil {
			out.skipped = errors.Join(out.skipped, err)
			continue
		}
		out.raw = append(out.raw, raw)
	}
	out.readLegacy(ctx, from, d)
	return out, ctx.Err()
}
