package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
)

// writeCallerKey makes a private key in a PEM file.
func writeCallerKey(t *testing.T, curve elliptic.Curve) (string, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, key
}

func TestACallersKeyBecomesACertificateOfItsOwn(t *testing.T) {
	path, key := writeCallerKey(t, elliptic.P256())
	certs, err := callerCertificate(path)
	if err != nil || len(certs) != 1 {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(certs[0].Certificate[0])
	if err != nil || !key.PublicKey.Equal(c.PublicKey) {
		t.Errorf("the certificate is for another key: %v", err)
	}
	if certs, err := callerCertificate(""); err != nil || certs != nil {
		t.Errorf("no key gives %v, %v", certs, err)
	}
	other, _ := writeCallerKey(t, elliptic.P384())
	if _, err := callerCertificate(other); err == nil {
		t.Error("a key that no policy can name is taken")
	}
}
