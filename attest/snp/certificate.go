package snp

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
)

// maxCertificate bounds one certificate or PEM file.
const maxCertificate = 64 << 10

var (
	pemBegin = []byte("-----BEGIN CERTIFICATE-----")
	pemEnd   = []byte("-----END CERTIFICATE-----")
)

// ParseCertificate reads one certificate, PEM or DER.
func ParseCertificate(b []byte) (*x509.Certificate, error) {
	certs, err := ParseCertificates(b)
	if err != nil {
		return nil, err
	}
	if len(certs) != 1 {
		return nil, fmt.Errorf("%d certificates, want one", len(certs))
	}
	return certs[0], nil
}

// ParseCertificates reads one DER certificate or one or more in PEM. It is
// stricter than encoding/pem: nothing but line ends may stand around the
// blocks and inside of the base64, so that no changed byte goes unnoticed.
func ParseCertificates(b []byte) ([]*x509.Certificate, error) {
	if len(b) == 0 || len(b) > maxCertificate {
		return nil, fmt.Errorf("certificate of %d bytes", len(b))
	}
	if b[0] == 0x30 { // ASN.1 SEQUENCE
		c, err := x509.ParseCertificate(b)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		return []*x509.Certificate{c}, nil
	}
	var certs []*x509.Certificate
	for rest := trimLines(b); len(rest) > 0; rest = trimLines(rest) {
		der, tail, err := nextPEM(rest)
		if err != nil {
			return nil, fmt.Errorf("PEM: %w", err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		certs, rest = append(certs, c), tail
	}
	if len(certs) == 0 {
		return nil, errors.New("PEM: no certificate")
	}
	return certs, nil
}

func nextPEM(b []byte) (der, rest []byte, err error) {
	body, ok := bytes.CutPrefix(b, pemBegin)
	if !ok {
		return nil, nil, errors.New("no certificate where one should begin")
	}
	body, rest, ok = bytes.Cut(body, pemEnd)
	if !ok {
		return nil, nil, errors.New("certificate has no end")
	}
	if len(body) == 0 || body[0] != '\n' && body[0] != '\r' || body[len(body)-1] != '\n' {
		return nil, nil, errors.New("text beside a boundary")
	}
	if len(rest) > 0 && rest[0] != '\n' && rest[0] != '\r' {
		return nil, nil, errors.New("text behind a certificate")
	}
	der, err = base64.StdEncoding.Strict().DecodeString(string(body))
	return der, rest, err
}

func trimLines(b []byte) []byte { return bytes.TrimLeft(b, "\r\n") }
