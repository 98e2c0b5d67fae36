package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"time"

	"omega/agentloader/bundle"
	"omega/attest"
	"omega/images"
)

const manifestUsage = "sign --key PRIVATE [MANIFEST] | verify --key PUBLIC [--min-svn N] [--at RFC3339] [--json] [MANIFEST]"

// runManifest is `omega manifest`: who stands behind a release.
func runManifest(_ context.Context, e *env, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "sign":
			return runManifestSign(e, args[1:])
		case "verify":
			return runManifestVerify(e, args[1:])
		case "-h", "--help":
			e.flags("manifest").Usage()
			return flag.ErrHelp
		}
	}
	return fmt.Errorf("manifest: want %s", manifestUsage)
}

// manifestArgument is the manifest that a verb is about.
func manifestArgument(rest []string) (string, error) {
	switch len(rest) {
	case 0:
		source, err := sourceRoot()
		return filepath.Join(source, "build", "cpu", "manifest.json"), err
	case 1:
		return rest[0], nil
	}
	return "", fmt.Errorf("manifest: want %s", manifestUsage)
}

func runManifestSign(e *env, args []string) error {
	fs := e.flags("manifest")
	key := fs.String("key", "", "the release's private `key` in PEM (ECDSA P-256 or Ed25519); `omega bundle key` makes one")
	rest, err := parseMixed(fs, args)
	if err != nil {
		return err
	}
	path, err := manifestArgument(rest)
	if err != nil {
		return err
	}
	if *key == "" {
		return fmt.Errorf("manifest: want %s", manifestUsage)
	}
	id, err := signManifest(path, *key, time.Now())
	if err != nil {
		return err
	}
	fmt.Fprintf(e.Stdout, "%s signed by %s\n", signaturePath(path), id)
	return nil
}

// signManifest writes manifest.dsse.json beside the manifest at path and returns
// the ID of the key. What no Verifier would accept is not signed.
func signManifest(path, keyPath string, now time.Time) (string, error) {
	raw, err := readBounded(path, maxManifestFile)
	if err != nil {
		return "", err
	}
	m, err := attest.ParseManifest(raw)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if now.After(m.Predicate.Expires) {
		return "", exit(exitSignature, fmt.Errorf("%s expired on %s; nobody would accept the release", path, m.Predicate.Expires.Format(time.RFC3339)))
	}
	key, err := readSigningKey(keyPath)
	if err != nil {
		return "", err
	}
	env, id, err := sealRelease(key, raw)
	if err != nil {
		return "", err
	}
	b, err := json.Marshal(env)
	if err != nil {
		return "", err
	}
	return id, images.WriteFile(signaturePath(path), append(b, '\n'))
}

// sealRelease signs raw into a DSSE envelope.
func sealRelease(key crypto.Signer, raw []byte) (*bundle.Envelope, string, error) {
	msg := bundle.PAE(bundle.TypePayload, raw)
	var opts crypto.SignerOpts = crypto.Hash(0) // Ed25519 signs the message itself
	if _, ok := key.(*ecdsa.PrivateKey); ok {
		sum := sha256.Sum256(msg)
		msg, opts = sum[:], crypto.SHA256
	}
	sig, err := key.Sign(rand.Reader, msg, opts)
	if err != nil {
		return nil, "", fmt.Errorf("signing: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, "", fmt.Errorf("signing: %w", err)
	}
	sum := sha256.Sum256(der)
	id := hex.EncodeToString(sum[:])
	return &bundle.Envelope{PayloadType: bundle.TypePayload, Payload: raw, Signatures: []bundle.Signature{{KeyID: id, Sig: sig}}}, id, nil
}

// readSigningKey reads the private key at path.
func readSigningKey(path string) (crypto.Signer, error) {
	text, err := readBounded(path, 64<<10)
	if err != nil {
		return nil, err
	}
	key, err := parseSigningKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// parseSigningKey reads an unencrypted private key in PEM.
func parseSigningKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("signing key: not PEM")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("signing key: a %q is not an unencrypted private key", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		if k.Curve == elliptic.P256() {
			return k, nil
		}
	case ed25519.PrivateKey:
		return k, nil
	}
	return nil, errors.New("signing key: want ECDSA P-256 or Ed25519")
}

// verifiedManifest is what `omega manifest verify --json` prints.
type verifiedManifest struct {
	Manifest string `json:"manifest"`
	Profile  string `json:"profile"`
	SVN      uint32 `json:"svn"`
	Expires  string `json:"expires"`
	Machines int    `json:"machines"`
}

func runManifestVerify(e *env, args []string) error {
	fs := e.flags("manifest")
	key := fs.String("key", "", "the release's public `key` in PEM")
	minSVN := fs.Uint("min-svn", 0, "lowest security version that is accepted")
	at := fs.String("at", "", "the time to check the expiry at, RFC 3339 (default: now)")
	asJSON := fs.Bool("json", false, "print JSON")
	rest, err := parseMixed(fs, args)
	if err != nil {
		return err
	}
	path, err := manifestArgument(rest)
	if err != nil {
		return err
	}
	if *key == "" {
		return fmt.Errorf("manifest: want %s", manifestUsage)
	}
	now := time.Now()
	if *at != "" {
		if now, err = time.Parse(time.RFC3339, *at); err != nil {
			return fmt.Errorf("--at: %w", err)
		}
	}
	m, err := loadManifest(verifyOptions{Manifest: path, ManifestKey: *key})
	if err != nil {
		return err
	}
	p := m.manifest.Predicate
	switch {
	case now.After(p.Expires):
		return exit(exitSignature, fmt.Errorf("%s: signed, but it expired on %s: get the release's successor", path, p.Expires.Format(time.RFC3339)))
	case uint64(p.SVN) < uint64(*minSVN):
		return exit(exitMismatch, fmt.Errorf("%s: signed, but its SVN is %d and at least %d is wanted: the release is withdrawn", path, p.SVN, *minSVN))
	}
	out := verifiedManifest{path, p.Profile, p.SVN, p.Expires.Format(time.RFC3339), len(p.LaunchDigests)}
	if *asJSON {
		return json.NewEncoder(e.Stdout).Encode(out)
	}
	fmt.Fprintf(e.Stdout, "%s: signed by the key that you gave; profile %s, SVN %d, valid until %s, %d machines\n",
		out.Manifest, out.Profile, out.SVN, out.Expires, out.Machines)
	return nil
}
