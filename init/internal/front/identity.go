package front

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"omega/attest"
	"omega/attest/cmw"
	"omega/attest/eat"
)

// ErrNoCertificate is what a handshake ends with before the first Issue.
var ErrNoCertificate = errors.New("no certificate yet")

// Identity is the front's TLS key, made at boot, and the certificate around it,
// made anew as its evidence grows old. The certificate is self-signed: trust in
// the key comes from evidence that names its digest, in the certificate or asked
// for with a nonce, and from nothing else.
type Identity struct {
	KeyDigest [32]byte // SHA-256 of the SubjectPublicKeyInfo

	key     *ecdsa.PrivateKey
	current atomic.Pointer[tls.Certificate]
}

// NewIdentity makes a P-256 key. It has no certificate yet.
func NewIdentity() (*Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("TLS key: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("TLS key: %w", err)
	}
	return &Identity{KeyDigest: sha256.Sum256(spki), key: key}, nil
}

// Issue makes the certificate that new handshakes show. It carries the token in
// which the signer vouches for this key, and is valid for as long as that may be
// used.
func (id *Identity) Issue(token []byte) error {
	evidence, err := eat.ParseCertificate(token)
	if err != nil {
		return err
	}
	if evidence.Boot.TLSKey != id.KeyDigest {
		return errors.New("TLS certificate: the evidence names another key")
	}
	record := cmw.Record{Type: eat.CertificateMediaType, Value: token, Kind: cmw.Evidence}
	extension, err := record.Extension()
	if err != nil {
		return err
	}
	notBefore := time.Unix(evidence.NotBefore, 0).UTC()
	template := &x509.Certificate{
		Subject:         pkix.Name{CommonName: "omega platform"},
		DNSNames:        []string{"omega.invalid"},
		NotBefore:       notBefore,
		NotAfter:        notBefore.Add(attest.CertificateMaxAge),
		KeyUsage:        x509.KeyUsageDigitalSignature,
		ExtKeyUsage:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		ExtraExtensions: []pkix.Extension{extension},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, id.key.Public(), id.key)
	if err != nil {
		return fmt.Errorf("TLS certificate: %w", err)
	}
	id.current.Store(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: id.key})
	return nil
}

// Certificate is the certificate in use; ErrNoCertificate before the first Issue.
func (id *Identity) Certificate() (*tls.Certificate, error) {
	c := id.current.Load()
	if c == nil {
		return nil, ErrNoCertificate
	}
	return c, nil
}
