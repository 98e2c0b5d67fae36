package main

import (
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"omega/attest"
	"omega/attest/psp"
	"omega/attest/snp"
	"omega/attest/verifier"
)

// readEmulatedRoot reads the root of an emulated PSP by name.
func readEmulatedRoot(path string) (*x509.Certificate, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, psp.ARKFile)
	}
	return readCertificate(path)
}

func readCertificate(path string) (*x509.Certificate, error) {
	b, err := readBounded(path, 64<<10)
	if err != nil {
		return nil, err
	}
	c, err := snp.ParseCertificate(b)
	if err != nil {
		return nil, exit(exitSignature, fmt.Errorf("%s: %w; next: %s", path, err, certificateStep))
	}
	return c, nil
}

// certificateStep is what can be done about a file that is no certificate.
const certificateStep = "give a certificate in DER, or in PEM with nothing around it, as it was downloaded"

// readCertificates reads one certificate or, in PEM, several.
func readCertificates(path string) ([]*x509.Certificate, error) {
	b, err := readBounded(path, 64<<10)
	if err != nil {
		return nil, err
	}
	c, err := snp.ParseCertificates(b)
	if err != nil {
		return nil, verifier.Malformed(attest.ErrSignature, "certificate "+path, err)
	}
	return c, nil
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: more than %d bytes", path, limit)
	}
	return b, nil
}
