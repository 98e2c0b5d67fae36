// Package bundle reads and writes what an agent bundle is made of: the agent manifest, its OCI
// manifests, and the signatures of principals and deployers (DSSE, in-toto statements, sigstore
// bundles as cosign 3 writes them).
//
// It turns bytes into values or errors. It opens no file and no connection, and it does not decide
// whom to trust: callers hand in the keys. The same code signs on the host and verifies in the guest.
package bundle

import "errors"

// Media types and predicate types of the bundle's parts.
const (
	// TypeAgent is the artifact type of the OCI manifest whose digest is the bundle digest.
	TypeAgent = "application/vnd.omega.agent.v1+json"
	// TypeManifest is the media type of agent.json, that manifest's only layer.
	TypeManifest = "application/vnd.omega.agent.manifest.v1+json"
	// TypeTools is the artifact and layer type of a server's pinned tool descriptors.
	TypeTools = "application/vnd.omega.tools.v1+json"
	// TypeFile is the media type of a component that is one raw file, its artifact's only layer.
	TypeFile = "application/vnd.omega.file.v1"
	// TypeFileConfig is the media type of what such an artifact says about its file.
	TypeFileConfig = "application/vnd.omega.file.config.v1+json"
	// TypeSigstore is the media type of a sigstore bundle (sigstore/protobuf-specs, bundle v0.3).
	TypeSigstore = "application/vnd.dev.sigstore.bundle.v0.3+json"
	// TypePayload is the DSSE payload type of an in-toto statement (in-toto attestation spec, envelope).
	TypePayload = "application/vnd.in-toto+json"
	// TypeOCIManifest is an OCI image manifest (image-spec 1.1, media types).
	TypeOCIManifest = "application/vnd.oci.image.manifest.v1+json"
	// TypeOCIEmpty is OCI's empty descriptor (image-spec 1.1, guidance for an empty descriptor).
	TypeOCIEmpty = "application/vnd.oci.empty.v1+json"

	// PredicatePrincipal is the statement "this principal, in this role, vouches for the subject".
	PredicatePrincipal = "https://omega.invalid/principal/v1"
	// PredicateDeployment is the statement "run the subject, there, once".
	PredicateDeployment = "https://omega.invalid/deployment/v1"
)

// Bounds of the documents that this package reads. Larger ones are refused unread.
const (
	MaxManifest    = 64 << 10
	MaxOCIManifest = 256 << 10
	MaxSignature   = 128 << 10
	MaxTools       = 1 << 20
	MaxFileConfig  = 4 << 10
)

// ErrSignature reports that no handed-in key made a valid signature.
var ErrSignature = errors.New("no signature by a trusted key")

// ErrSubject reports a signed statement about something else than what was asked.
var ErrSubject = errors.New("statement is about another subject")

// ErrSwapped reports a model, an adapter or data that is not what the agent manifest or its own artifact
// says: another's was put in its place.
var ErrSwapped = errors.New("swapped component")

// ErrPredicate reports a signed statement of another kind.
var ErrPredicate = errors.New("statement has another predicate type")
