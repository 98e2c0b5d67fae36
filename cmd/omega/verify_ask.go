package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"omega/attest"
	"omega/attest/verifier"
)

// askTimeout is how long a platform may take to answer with evidence.
const askTimeout = 60 * time.Second

// evidenceRequest is the question in the shortest form that carries it.
func evidenceRequest(ctx context.Context, u *url.URL, ask attest.Request) (*http.Request, error) {
	if len(ask.Have) == 0 && ask.Open == nil {
		u.RawQuery = "nonce=" + ask.Nonce.String()
		return http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	}
	b, err := json.Marshal(ask)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(b))
	if err == nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, err
}

// askTries is how often a platform that is busy is asked.
const askTries = 5

// patiently asks again, a second later each time, where a platform is busy.
func patiently(ctx context.Context, ask func() (*http.Response, error)) (*http.Response, error) {
	for n := 1; ; n++ {
		resp, err := ask()
		if err != nil || n == askTries || resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
			return resp, err
		}
		_ = resp.Body.Close()
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// askPlatform asks a platform for evidence over a fresh connection, and returns
// it with the SHA-256 of the public key at the connection's other end. Nobody
// vouches for the certificate: the evidence must name that key.
func askPlatform(ctx context.Context, e *env, platform string, ask attest.Request, by caller) ([]byte, *[32]byte, error) {
	u, err := url.Parse(platform)
	if err != nil || u.Host == "" || u.User != nil {
		return nil, nil, fmt.Errorf("%s: want https://HOST[:PORT]", platform)
	}
	if u.Path != "" && u.Path != "/" {
		return nil, nil, fmt.Errorf("%s: want https://HOST[:PORT] without a path", platform)
	}
	u.Path = evidencePath
	bar := e.progress("asking " + u.Host + " for evidence")
	defer bar.Done()
	client := &http.Client{
		Timeout: askTimeout,
		Transport: by.over(&http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: 64 << 10,
			TLSClientConfig:        by.tls(),
		}),
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("redirect refused") },
	}
	resp, err := patiently(ctx, func() (*http.Response, error) {
		req, err := evidenceRequest(ctx, u, ask)
		if err != nil {
			return nil, err
		}
		return client.Do(req)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("asking for evidence: %w; next: see that the platform runs, and that address and port are right", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, nil, askRefusal(resp, u.Host, ask)
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

// askRefusal is why a platform gives no evidence, with what to do next.
func askRefusal(resp *http.Response, host string, ask attest.Request) error {
	switch status := resp.StatusCode; {
	case status == http.StatusNotFound && ask.Open != nil:
		what := "agent " + ask.Open.Instance
		if ask.Open.Kind != "" {
			what = fmt.Sprintf("component %s:%s of an agent %s", ask.Open.Kind, ask.Open.Name, ask.Open.Instance)
		}
		return exit(exitMismatch, fmt.Errorf("%s has no %s, or none that you may see; next: see with `omega verify https://%s` what it shows you, and ask as a caller of its policy (--caller-key, --token)", host, what, host))
	case status == http.StatusUnauthorized:
		return exit(exitMismatch, fmt.Errorf("%s knows no such caller; next: give a token, by --token, that its policy takes and that has not ended", host))
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		return fmt.Errorf("asking for evidence: %s is busy (%s); next: ask again in a minute", host, resp.Status)
	default:
		return fmt.Errorf("asking for evidence: %s answered %s; next: see that the address is that of a platform of Omega's", host, resp.Status)
	}
}

// getEvidence reads evidence from where it is, and sets the nonce and TLS key
// that it must be bound to. Where the platform was refused before it could be
// asked, that is the outcome beside the error.
func getEvidence(ctx context.Context, e *env, o verifyOptions, p *verifier.Params) ([]byte, *verification, error) {
	if strings.HasPrefix(o.Source, "https://") {
		if o.Nonce != "" {
			return nil, nil, errors.New("--nonce is for files; a platform is asked with a fresh one")
		}
		if _, err := rand.Read(p.Nonce[:]); err != nil {
			return nil, nil, err
		}
		return o.ask(ctx, e, p)
	}
	if strings.Contains(o.Source, "://") {
		return nil, nil, fmt.Errorf("%s: want an https URL or a file", o.Source)
	}
	nonce, err := hex.DecodeString(o.Nonce)
	if err != nil || len(nonce) != len(p.Nonce) {
		return nil, nil, errors.New("an evidence file needs --nonce, the 64 hex digits that were asked with")
	}
	copy(p.Nonce[:], nonce)
	raw, err := readBounded(o.Source, attest.MaxEvidence)
	return raw, nil, err
}

// ask asks a platform as the caller that the options name. A token is for a
// platform that was verified: one that is remembered, or else it is verified
// first, as anybody may.
func (o *verifyOptions) ask(ctx context.Context, e *env, p *verifier.Params) ([]byte, *verification, error) {
	by, err := o.caller()
	if err != nil {
		return nil, nil, err
	}
	if by.token != "" && p.Known != nil {
		by.key = (*[32]byte)(&p.Known.Boot.TLSKey)
		raw, key, err := askPlatform(ctx, e, o.Source, o.request(p), by)
		if !errors.Is(err, errOtherKey) { // else it was started anew
			p.TLSKey = key
			return raw, nil, err
		}
		p.Known = nil
	}
	if by.token != "" {
		first := *o
		first.Token, first.Have, first.Instance, first.Open, first.invocationOptions = "", "", "", "", invocationOptions{}
		v, err := verifyPlatform(ctx, e, first)
		if err != nil {
			return nil, v, err
		}
		by.key = (*[32]byte)(&v.Evidence.Boot.TLSKey)
	}
	raw, key, err := askPlatform(ctx, e, o.Source, o.request(p), by)
	p.TLSKey = key
	return raw, nil, err
}
