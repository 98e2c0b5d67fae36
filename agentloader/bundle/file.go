package bundle

import (
	"context"
	"fmt"
	"slices"

	"omega/internal/strictjson"
)

// VersionFile is the version of a file's configuration.
const VersionFile = "omega/file/v1"

// FileConfig is what a file's artifact says about it. Its principal signs the artifact and with it this.
type FileConfig struct {
	Version string `json:"version"`
	Kind    string `json:"kind"` // model, adapter or data
	Name    string `json:"name"`
	Size    int64  `json:"size"`
	Root    Digest `json:"root"`
	// Base is the digest of the model's artifact that an adapter was made for. An adapter for any model
	// has none.
	Base *Digest `json:"base,omitempty"`
}

// Part is a file that an agent reads, and the blob that holds it.
type Part struct {
	Kind string
	File
	Blob OCIDescriptor
}

// FileArtifact writes the artifact of a file whose digest is known, and its configuration, which is a blob
// of its own.
func FileArtifact(c FileConfig, digest Digest) (manifest, config []byte, err error) {
	c.Version = VersionFile
	if config, err = strictjson.Canonical(c); err != nil {
		return nil, nil, fmt.Errorf("file configuration: %w", err)
	}
	if _, err := parseFileConfig(config); err != nil {
		return nil, nil, err
	}
	manifest, err = strictjson.Canonical(OCIManifest{
		SchemaVersion: 2,
		MediaType:     TypeOCIManifest,
		ArtifactType:  TypeFileConfig,
		Config:        OCIDescriptor{MediaType: TypeFileConfig, Digest: DigestOf(config), Size: int64(len(config))},
		Layers:        []OCIDescriptor{{MediaType: TypeFile, Digest: digest, Size: c.Size}},
	})
	return manifest, config, err
}

func parseFileConfig(b []byte) (*FileConfig, error) {
	c := new(FileConfig)
	if err := strictjson.Decode(b, c, strictjson.Limits{MaxBytes: MaxFileConfig}); err != nil {
		return nil, fmt.Errorf("file configuration: %w", err)
	}
	if c.Version != VersionFile || !validFileKind(c.Kind) {
		return nil, fmt.Errorf("file configuration: version %.40q, kind %.40q", c.Version, c.Kind)
	}
	if c.Base != nil && (c.Kind != KindAdapter || c.Base.IsZero()) {
		return nil, fmt.Errorf("file configuration: a %s with a base", c.Kind)
	}
	f := File{Name: c.Name, Digest: c.Root, Size: c.Size, Root: c.Root}
	if err := f.validate(); err != nil {
		return nil, fmt.Errorf("file configuration: %s %.80q: %w", c.Kind, c.Name, err)
	}
	return c, nil
}

// ReadFileArtifact reads the artifact of a file: what it says, and the blob that holds the file.
func ReadFileArtifact(ctx context.Context, from Source, d Digest) (*FileConfig, OCIDescriptor, error) {
	raw, err := from.Manifest(ctx, d, MaxOCIManifest)
	if err != nil {
		return nil, OCIDescriptor{}, err
	}
	m, err := ParseOCIManifest(raw)
	if err != nil {
		return nil, OCIDescriptor{}, fmt.Errorf("%s: %w: %w", d, ErrMalformed, err)
	}
	blob, err := m.Layer(TypeFileConfig, TypeFile)
	if err != nil || m.Config.MediaType != TypeFileConfig {
		return nil, OCIDescriptor{}, fmt.Errorf("%s: %w: not the artifact of a file", d, ErrMalformed)
	}
	text, err := from.Blob(ctx, m.Config, MaxFileConfig)
	if err != nil {
		return nil, OCIDescriptor{}, err
	}
	c, err := parseFileConfig(text)
	if err != nil {
		return nil, OCIDescriptor{}, fmt.Errorf("%s: %w: %w", d, ErrMalformed, err)
	}
	if blob.Size != c.Size {
		return nil, OCIDescriptor{}, fmt.Errorf("%s: %w: a file of %d bytes in a blob of %d", d, ErrMalformed, c.Size, blob.Size)
	}
	return c, blob, nil
}

// checkFiles checks that each model, adapter and data set is what the manifest names, and that a principal
// whom the policy requires in that role signed it. What the policy does not ask for, nobody may add.
func (c *Checker) checkFiles(ctx context.Context, from Source, rule AgentRule, out *Checked) error {
	var met []Requirement
	for kind, f := range out.Manifest.Files() {
		config, blob, err := ReadFileArtifact(ctx, from, f.Digest)
		if err != nil {
			return fmt.Errorf("%s %q: %w", kind, f.Name, err)
		}
		if err := config.is(kind, f, out.Manifest.Model); err != nil {
			return err
		}
		by, err := c.fileVouched(ctx, from, rule, kind, f)
		if err != nil {
			return err
		}
		for _, p := range by {
			met = append(met, Requirement{p.Role, p.Principal})
		}
		out.Files = append(out.Files, Part{Kind: kind, File: f, Blob: blob})
		out.Components = append(out.Components, by...)
	}
	for _, r := range rule.Requires {
		if validFileKind(r.Role) && !slices.Contains(met, r) {
			return fmt.Errorf("%w: the policy requires a %s of %s, and the bundle has none", ErrUnsigned, r.Role, r.Principal)
		}
	}
	return nil
}

// is holds an artifact against what the agent manifest says of it.
func (c *FileConfig) is(kind string, f File, model *File) error {
	switch {
	case c.Kind != kind || c.Name != f.Name:
		return fmt.Errorf("%w: the bundle's %s %q is the %s %q", ErrSwapped, kind, f.Name, c.Kind, c.Name)
	case c.Size != f.Size || c.Root != f.Root:
		return fmt.Errorf("%w: the bundle's %s %q has the verity root %s, its artifact %s", ErrSwapped, kind, f.Name, f.Root, c.Root)
	case c.Base != nil && *c.Base != model.Digest:
		return fmt.Errorf("%w: adapter %q was made for the model %s, the bundle's is %s", ErrSwapped, f.Name, c.Base, model.Digest)
	}
	return nil
}

// fileVouched finds the principals of the policy's requirements that signed a file, at least one.
func (c *Checker) fileVouched(ctx context.Context, from Source, rule AgentRule, kind string, f File) ([]Component, error) {
	sigs, err := readSignatures(ctx, from, f.Digest)
	if err != nil {
		return nil, err
	}
	var out []Component
	why := fmt.Errorf("%w: the policy asks for no %s, and the bundle brings %q", ErrUnknown, kind, f.Name)
	for _, r := range rule.Requires {
		if r.Role != kind {
			continue
		}
		by, err := c.vouched(r, f.Name, f.Digest, sigs)
		if err != nil {
			why = err
			continue
		}
		out = append(out, Component{kind, f.Name, f.Digest, r.Role, r.Principal, by})
	}
	if len(out) == 0 {
		return nil, why
	}
	return out, nil
}
