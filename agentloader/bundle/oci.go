package bundle

import (
	"fmt"

	"omega/internal/strictjson"
)

// OCIDescriptor is an OCI content descriptor (image-spec 1.1, descriptor.md).
type OCIDescriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       Digest            `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// OCIManifest is an OCI image manifest (image-spec 1.1, manifest.md). Fields that this package does
// not use are passed over: the digest, not the parser, vouches for them.
type OCIManifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        OCIDescriptor     `json:"config"`
	Layers        []OCIDescriptor   `json:"layers"`
	Subject       *OCIDescriptor    `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// OCIIndex is an OCI image index, the form of a referrers list (distribution-spec 1.1).
type OCIIndex struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     string          `json:"mediaType"`
	Manifests     []OCIDescriptor `json:"manifests"`
}

// maxLayers bounds the layers of an image and the parts of an artifact.
const maxLayers = 128

// EmptyConfig is the content of OCI's empty descriptor.
func EmptyConfig() []byte { return []byte("{}") }

// ParseOCIManifest reads an OCI image manifest.
func ParseOCIManifest(b []byte) (*OCIManifest, error) {
	m := new(OCIManifest)
	if err := strictjson.Decode(b, m, strictjson.Limits{MaxBytes: MaxOCIManifest, AllowUnknown: true}); err != nil {
		return nil, fmt.Errorf("OCI manifest: %w", err)
	}
	if m.SchemaVersion != 2 || m.MediaType != TypeOCIManifest {
		return nil, fmt.Errorf("OCI manifest: schema version %d, media type %.80q", m.SchemaVersion, m.MediaType)
	}
	if len(m.Layers) > maxLayers {
		return nil, fmt.Errorf("OCI manifest: %d layers", len(m.Layers))
	}
	for _, d := range append([]OCIDescriptor{m.Config}, m.Layers...) {
		if d.Digest.IsZero() || d.Size < 0 {
			return nil, fmt.Errorf("OCI manifest: descriptor %.80q without digest or with size %d", d.MediaType, d.Size)
		}
	}
	return m, nil
}

// ParseOCIIndex reads an OCI image index of at most max bytes.
func ParseOCIIndex(b []byte, max int) (*OCIIndex, error) {
	x := new(OCIIndex)
	if err := strictjson.Decode(b, x, strictjson.Limits{MaxBytes: max, AllowUnknown: true}); err != nil {
		return nil, fmt.Errorf("OCI index: %w", err)
	}
	return x, nil
}

// Artifact returns the canonical OCI manifest of an artifact with the empty config and one layer.
// A nil subject makes it stand alone, else it is a referrer of subject.
func Artifact(artifactType, layerType string, layer []byte, subject *OCIDescriptor, notes map[string]string) ([]byte, error) {
	empty := EmptyConfig()
	return strictjson.Canonical(OCIManifest{
		SchemaVersion: 2,
		MediaType:     TypeOCIManifest,
		ArtifactType:  artifactType,
		Config:        OCIDescriptor{MediaType: TypeOCIEmpty, Digest: DigestOf(empty), Size: int64(len(empty))},
		Layers:        []OCIDescriptor{{MediaType: layerType, Digest: DigestOf(layer), Size: int64(len(layer))}},
		Subject:       subject,
		Annotations:   notes,
	})
}

// Layer returns the only layer of an artifact of the given types, or an error.
func (m *OCIManifest) Layer(artifactType, layerType string) (OCIDescriptor, error) {
	if m.ArtifactType != artifactType || len(m.Layers) != 1 || m.Layers[0].MediaType != layerType {
		return OCIDescriptor{}, fmt.Errorf("artifact type %.80q with %d layers, not %q with one", m.ArtifactType, len(m.Layers), artifactType)
	}
	return m.Layers[0], nil
}
