package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"omega/agentloader/bundle"
	"omega/attest"
	"omega/internal/strictjson"
)

// maxManifestFile bounds manifest.json and its signature, which contains it.
const maxManifestFile = 2 << 20

// releaseManifest is a manifest and what is known of who made it.
type releaseManifest struct {
	path     string
	signed   bool
	manifest *attest.Manifest
}

// loadManifest reads the release's reference values. They must be signed by the
// key that was given, or built in this tree, or accepted unsigned on purpose.
func loadManifest(o verifyOptions) (*releaseManifest, error) {
	m := &releaseManifest{path: o.Manifest}
	if m.path == "" {
		m.path = filepath.Join("build", "cpu", "manifest.json")
		if _, err := os.Stat(m.path); err != nil {
			return nil, errors.New("no manifest: give --manifest F, or build the image here with `omega build`")
		}
	}
	raw, err := readBounded(m.path, maxManifestFile)
	if err != nil {
		return nil, err
	}
	switch {
	case len(o.manifestKeys) > 0: // the appraisal policy's: no flag takes their place
		if err := checkManifestKeys(m.path, raw, o.manifestKeys); err != nil {
			return nil, err
		}
		m.signed = true
	case o.ManifestKey != "":
		if err := checkManifestSignature(m.path, raw, o.ManifestKey); err != nil {
			return nil, err
		}
		m.signed = true
	case !o.Unsigned && !builtHere(m.path):
		return nil, exit(exitSignature, fmt.Errorf("%s: nobody signed it that you named: give --manifest-key F, or --manifest-unsigned if you trust the file", m.path))
	}
	if m.manifest, err = attest.ParseManifest(raw); err != nil {
		return nil, fmt.Errorf("%s: %w", m.path, err)
	}
	return m, nil
}

// builtHere reports whether path is build/PROFILE/manifest.json of this tree.
func builtHere(path string) bool {
	here, err := os.Getwd()
	if err != nil {
		return false
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return false
	}
	ok, err := filepath.Match(filepath.Join("build", "*", "manifest.json"), strings.TrimPrefix(abs, here+string(filepath.Separator)))
	return err == nil && ok
}

// check says where the reference values come from.
func (m *releaseManifest) check() attest.Check {
	c := attest.Check{Name: "manifest", Status: attest.Proven, Found: m.path, Words: "the reference values are signed by the key you gave"}
	if !m.signed {
		c.Status = attest.NotProven
		c.Words = "the reference values are not signed: they are as good as the tree that they were built in, or the file that you chose"
	}
	return c
}

// checkManifestSignature holds a manifest against manifest.dsse.json beside it:
// a DSSE envelope around the very same bytes.
func checkManifestSignature(path string, manifest []byte, keyPath string) error {
	key, err := readBounded(keyPath, 64<<10)
	if err != nil {
		return err
	}
	sigPath := signaturePath(path)
	raw, err := readBounded(sigPath, maxManifestFile)
	if err != nil {
		return exit(exitCollateral, fmt.Errorf("signature of the manifest: %w", err))
	}
	if err := verifyManifestEnvelope(raw, manifest, key); err != nil {
		return exit(exitSignature, fmt.Errorf("%s: %w; next: %s", sigPath, err, manifestStep))
	}
	return nil
}

// manifestStep is what can be done about a manifest that is not the key's.
const manifestStep = "get manifest and signature again from who released it, or name the key that signed it"

// signaturePath is where the signature of the manifest at path lies.
func signaturePath(path string) string { return strings.TrimSuffix(path, ".json") + ".dsse.json" }

// verifyManifestEnvelope checks that the envelope is around manifest and signed
// by the key.
func verifyManifestEnvelope(raw, manifest, keyPEM []byte) error {
	key, err := parseManifestKey(keyPEM)
	if err != nil {
		return err
	}
	env, err := parseManifestEnvelope(raw)
	if err != nil {
		return err
	}
	if !bytes.Equal(env.Payload, manifest) {
		return errors.New("the signature is over another manifest")
	}
	msg := bundle.PAE(env.PayloadType, env.Payload)
	for _, s := range env.Signatures {
		if verifySignature(key, msg, s.Sig) {
			return nil
		}
	}
	return errors.New("no signature by the manifest key")
}

// maxManifestSignatures bounds the work that one envelope can cause.
const maxManifestSignatures = 8

// parseManifestEnvelope reads a DSSE envelope (dsse v1.0.2, envelope.md) around
// a manifest, which is larger than any envelope of a bundle.
func parseManifestEnvelope(raw []byte) (*bundle.Envelope, error) {
	var env bundle.Envelope
	if err := strictjson.Decode(raw, &env, strictjson.Limits{MaxBytes: maxManifestFile}); err != nil {
		return nil, fmt.Errorf("envelope: %w", err)
	}
	if env.PayloadType != bundle.TypePayload {
		return nil, fmt.Errorf("envelope: payload type %.80q, want %q", env.PayloadType, bundle.TypePayload)
	}
	if n := len(env.Signatures); n == 0 || n > maxManifestSignatures {
		return nil, fmt.Errorf("envelope: %d signatures", n)
	}
	return &env, nil
}

// parseManifestKey reads a public key: ECDSA P-256 or Ed25519, in PEM.
func parseManifestKey(text []byte) (any, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("manifest key: want one PUBLIC KEY in PEM")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("manifest key: %w", err)
	}
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return k, nil
		}
	case ed25519.PublicKey:
		return k, nil
	}
	return nil, errors.New("manifest key: want ECDSA P-256 or Ed25519")
}

func verifySignature(key any, msg, sig []byte) bool {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(msg)
		return ecdsa.VerifyASN1(k, sum[:], sig)
	case ed25519.PublicKey:
		return ed25519.Verify(k, msg, sig)
	}
	return false
}
