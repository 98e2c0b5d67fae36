package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"omega/attest"
)

// askTimeout is how long a platform may take to answer with evidence.
const askTimeout = 60 * time.Second

// askPlatform asks a platform for evidence over a fresh connection, and returns
// it with the SHA-256 of the public key at the connection's other end. Nobody
// vouches for the certificate: the evidence must name that key.
func askPlatform(ctx context.Context, e *env, platform string, nonce [32]byte) ([]byte, *[32]byte, error) {
	u, err := url.Parse(platform)
	if err != nil || u.Host == "" || u.User != nil {
		return nil, nil, fmt.Errorf("%s: want https://HOST[:PORT]", platform)
	}
	if u.Path != "" && u.Path != "/" {
		return nil, nil, fmt.Errorf("%s: want https://HOST[:PORT] without a path", platform)
	}
	u.Path, u.RawQuery = evidencePath, "nonce="+hex.EncodeToString(nonce[:])
	bar := e.progress("asking " + u.Host + " for evidence")
	defer bar.Done()
	client := &http.Client{
		Timeout: askTimeout,
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: 64 << 10,
			TLSClientConfig:        &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("redirect refused") },
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, fmt.Errorf("asking for evidence: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("asking for evidence: %s answered %s", u.Host, resp.Status)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, attest.MaxEvidence+1))
	if err != nil {
		return nil, nil, fmt.Errorf("reading evidence: %w", err)
	}
	if resp.TLS == nil || len(resp.TLS.PeerCertificates) == 0 {
		return nil, nil, errors.New("asking for evidence: connection without a key")
	}
	key := sha256.Sum256(resp.TLS.PeerCertificates[0].RawSubjectPublicKeyInfo)
	return raw, &key, nil
}
