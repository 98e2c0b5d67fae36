package gateway

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net"
	"net/http"

	"omega/policy"
)

// errKey reports a server with another key than the policy names.
var errKey = errors.New("tls: the server has another key than the policy names")

// Transport reaches one upstream of the platform's own, as the gateway reaches
// those of agents: addresses are checked, and the certificate is held against the
// roots, or, where a key is given, against that key alone.
func Transport(roots *x509.CertPool, dial map[string]string, private bool, key *policy.Key) http.RoundTripper {
	g := &Gateway{cfg: Config{Dial: dial}}
	conf := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}
	if key != nil {
		conf.InsecureSkipVerify = true // the key is what is verified
		conf.VerifyConnection = func(s tls.ConnectionState) error { return hasKey(s, key.ID) }
	}
	return &http.Transport{
		DialContext:            func(ctx context.Context, _, address string) (net.Conn, error) { return g.dial(ctx, private, address) },
		TLSClientConfig:        conf,
		TLSHandshakeTimeout:    dialTime,
		DisableCompression:     true,
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// hasKey holds the key that the other end has shown to hold against the SHA-256
// of a SubjectPublicKeyInfo in hex.
func hasKey(s tls.ConnectionState, id string) error {
	want, err := hex.DecodeString(id)
	if err != nil || len(want) != sha256.Size || len(s.PeerCertificates) == 0 {
		return errKey
	}
	got := sha256.Sum256(s.PeerCertificates[0].RawSubjectPublicKeyInfo)
	if subtle.ConstantTimeCompare(got[:], want) != 1 {
		return errKey
	}
	return nil
}
