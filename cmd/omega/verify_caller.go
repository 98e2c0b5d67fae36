package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"strings"
	"time"
)

// maxToken bounds a bearer token, as the platform does.
const maxToken = 8 << 10

// A caller is who asks a platform, as the platform's policy knows it: by a key,
// by a token, or, the zero caller, nobody in particular.
type caller struct {
	certs []tls.Certificate
	token string
	// key is the TLS key of a platform that was verified: nobody else is sent the
	// token. Nil takes any, and the token to nobody.
	key *[32]byte
}

// callerFlags are --caller-key and --token.
func (o *verifyOptions) callerFlags(fs *flag.FlagSet) {
	fs.StringVar(&o.CallerKey, "caller-key", "", "private key (PEM, P-256) of a caller that the platform's policy names: shows its agents")
	fs.StringVar(&o.Token, "token", "", "file with a bearer token of an identity provider that the platform's policy names, or env:NAME; a platform gets it once it is verified")
}

// caller reads who asks. The token is not yet for anybody.
func (o *verifyOptions) caller() (c caller, err error) {
	if c.certs, err = callerCertificate(o.CallerKey); err != nil {
		return c, err
	}
	c.token, err = readToken(o.Token)
	return c, err
}

// readToken reads a bearer token from a file or a variable; an empty name is
// none. No error repeats it.
func readToken(from string) (string, error) {
	if from == "" {
		return "", nil
	}
	name, isVariable := strings.CutPrefix(from, "env:")
	text := os.Getenv(name)
	if !isVariable {
		b, err := readBounded(from, maxToken)
		if err != nil {
			return "", fmt.Errorf("--token: %w", err)
		}
		text = string(b)
	}
	text = strings.TrimSpace(text)
	odd := strings.ContainsFunc(text, func(r rune) bool { // RFC 6750 section 2.1
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && !strings.ContainsRune("-._~+/=", r)
	})
	if text == "" || odd || len(text) > maxToken {
		return "", fmt.Errorf("--token %s: not a bearer token; next: have the identity provider issue one, and put it there by itself", from)
	}
	return text, nil
}

// tls is the configuration of a connection by this caller. Nobody vouches for
// the platform's certificate: evidence names its key.
func (c caller) tls() *tls.Config {
	config := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, Certificates: c.certs}
	if c.key != nil {
		config.VerifyConnection = func(s tls.ConnectionState) error { // before anything is sent
			if len(s.PeerCertificates) == 0 || sha256.Sum256(s.PeerCertificates[0].RawSubjectPublicKeyInfo) != *c.key {
				return errOtherKey
			}
			return nil
		}
	}
	return config
}

// over is a transport that speaks for the caller: with the token, where each
// connection of next ends at the key that was verified.
func (c caller) over(next http.RoundTripper) http.RoundTripper {
	if c.token == "" || c.key == nil {
		return next
	}
	return &bearer{c.token, next}
}

// bearer adds a token to requests that bring none.
type bearer struct {
	token string
	next  http.RoundTripper
}

// RoundTrip sends the request with the token (RFC 6750 section 2.1).
func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Authorization") == "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	return b.next.RoundTrip(r)
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
