package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"time"
)

// callerFlag is --caller-key of the verbs that read from a platform.
func callerFlag(fs *flag.FlagSet) *string {
	return fs.String("caller-key", "", "private key (PEM, P-256) of a caller that the platform's policy names")
}

// callerCertificate is a certificate for the private key in a PEM file; an empty
// name is none. The policy of a platform names the key, so nobody else signs it,
// and it serves nobody who stands between: the handshake binds it.
func callerCertificate(path string) ([]tls.Certificate, error) {
	if path == "" {
		return nil, nil
	}
	b, err := readBounded(path, 16<<10)
	if err != nil {
		return nil, err
	}
	key, err := parseCallerKey(b)
	if err != nil {
		return nil, fmt.Errorf("--caller-key %s: %w", path, err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "omega caller"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, 1),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("--caller-key: %w", err)
	}
	return []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, nil
}

// parseCallerKey reads one P-256 private key, PKCS #8 or SEC 1, in PEM.
func parseCallerKey(b []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("not a private key in PEM")
	}
	if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil && key.Curve == elliptic.P256() {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	if ec, ok := key.(*ecdsa.PrivateKey); ok && ec.Curve == elliptic.P256() {
		return ec, nil
	}
	return nil, fmt.Errorf("not an ECDSA P-256 key")
}
