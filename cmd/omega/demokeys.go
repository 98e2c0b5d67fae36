package main

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"omega/agentloader/bundle"
)

// demoSigners are the people of the demo, each with a signing key of their
// own. The stranger is in no policy.
var demoSigners = []string{"author", "files-owner", "notes-owner", "model-owner", "operator", "deployer", "stranger"}

// demoKeys are made once in a folder of the user's cache, so that the policy
// of the demo, and with it the image, stays the same from run to run.
type demoKeys struct {
	dir     string
	caCert  *x509.Certificate
	caKey   *ecdsa.PrivateKey
	signers map[string]*bundle.PrivateKey
}

// openDemoKeys reads the keys in dir and makes those that are missing.
func openDemoKeys(dir string) (*demoKeys, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("demo keys: %w", err)
	}
	k := &demoKeys{dir: dir, signers: map[string]*bundle.PrivateKey{}}
	for _, name := range demoSigners {
		key, err := k.signer(name)
		if err != nil {
			return nil, fmt.Errorf("demo key %s: %w", name, err)
		}
		k.signers[name] = key
	}
	if err := k.auditor(); err != nil {
		return nil, fmt.Errorf("demo key auditor: %w", err)
	}
	if err := k.authority(); err != nil {
		return nil, fmt.Errorf("demo authority: %w", err)
	}
	return k, nil
}

// path returns the file of a key: NAME.pem is private, NAME.pub public.
func (k *demoKeys) path(file string) string { return filepath.Join(k.dir, file) }

// signer reads or makes one signing key.
func (k *demoKeys) signer(name string) (*bundle.PrivateKey, error) {
	text, err := k.once(name+".pem", func() ([]byte, error) {
		key, err := bundle.GenerateKey()
		if err != nil {
			return nil, err
		}
		return key.MarshalPEM()
	})
	if err != nil {
		return nil, err
	}
	key, err := bundle.ParsePrivateKey(text)
	if err != nil {
		return nil, err
	}
	public, err := key.PublicPEM()
	if err != nil {
		return nil, err
	}
	return key, os.WriteFile(k.path(name+".pub"), public, 0o644)
}

// auditor reads or makes the X25519 key that opens the provenance log.
func (k *demoKeys) auditor() error {
	text, err := k.once("auditor.pem", func() ([]byte, error) {
		key, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		return privatePEM(key)
	})
	if err != nil {
		return err
	}
	parsed, err := parsePrivatePEM(text)
	if err != nil {
		return err
	}
	key, ok := parsed.(*ecdh.PrivateKey)
	if !ok || key.Curve() != ecdh.X25519() {
		return errors.New("not an X25519 key")
	}
	der, err := x509.MarshalPKIXPublicKey(key.PublicKey())
	if err != nil {
		return err
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return os.WriteFile(k.path("auditor.pub"), public, 0o644)
}

// authority reads or makes the TLS authority of the tool providers. Its
// certificate, roots.pem, is what the image is told to trust upstream.
func (k *demoKeys) authority() error {
	text, err := k.once("authority.pem", authorityKey)
	if err != nil {
		return err
	}
	parsed, err := parsePrivatePEM(text)
	if err != nil {
		return err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return errors.New("not an ECDSA key")
	}
	certificate, err := k.once("roots.pem", func() ([]byte, error) { return authorityCertificate(key) })
	if err != nil {
		return err
	}
	block, _ := pem.Decode(certificate)
	if block == nil {
		return errors.New("roots.pem is not PEM")
	}
	k.caKey = key
	k.caCert, err = x509.ParseCertificate(block.Bytes)
	return err
}

// authorityKey makes a new key, in PEM.
func authorityKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return privatePEM(key)
}

// authorityCertificate states the authority for ten years, for names under
// omega.test alone.
func authorityCertificate(key *ecdsa.PrivateKey) ([]byte, error) {
	now := time.Now().Truncate(time.Hour)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Omega demo authority"},
		NotBefore: now.AddDate(0, 0, -1), NotAfter: now.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: []string{"omega.test"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// issue writes a short-lived certificate and key for one host into dir.
func (k *demoKeys) issue(dir, host string) (cert, key string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, k.caCert, &private.PublicKey, k.caKey)
	if err != nil {
		return "", "", fmt.Errorf("certificate for %s: %w", host, err)
	}
	text, err := privatePEM(private)
	if err != nil {
		return "", "", err
	}
	cert, key = filepath.Join(dir, host+".crt"), filepath.Join(dir, host+".key")
	err = errors.Join(
		os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644),
		os.WriteFile(key, text, 0o600))
	return cert, key, err
}

// once returns the content of a file, which make provides the first time.
func (k *demoKeys) once(file string, make func() ([]byte, error)) ([]byte, error) {
	text, err := os.ReadFile(k.path(file))
	if !errors.Is(err, fs.ErrNotExist) {
		return text, err
	}
	if text, err = make(); err != nil {
		return nil, err
	}
	// Written aside first: an interrupted write must not leave half a key.
	if err := os.WriteFile(k.path(file+".new"), text, 0o600); err != nil {
		return nil, err
	}
	return text, os.Rename(k.path(file+".new"), k.path(file))
}

func privatePEM(key any) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func parsePrivatePEM(text []byte) (any, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("not PEM")
	}
	return x509.ParsePKCS8PrivateKey(block.Bytes)
}
