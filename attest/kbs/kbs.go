// Package kbs asks a key broker service (Trustee) for secrets that it releases
// to an attested platform only. It carries the messages of rcar over HTTPS; the
// report and the key that opens what comes back are the signer's, so whoever
// takes over this process learns the secrets it asks for and can make no
// evidence of its own.
//
// It keeps nothing: each Get is a handshake, and its caller clears the secret.
package kbs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"omega/attest/kbs/rcar"
)

// timeout bounds one message and its answer.
const timeout = 30 * time.Second

// cookieName is the session's (trustee 78962cd, kbs/src/attestation/session.rs).
const cookieName = "kbs-session-id"

// cookieForm is a session's name: a UUID without its dashes, or the like.
var cookieForm = regexp.MustCompile(`^[A-Za-z0-9-]{16,128}$`)

// ErrRefused reports that the broker did not release the secret.
var ErrRefused = errors.New("the key broker refused")

// An Attester makes evidence for a broker's nonce, with a key of its own inside
// of it, and unwraps what is wrapped to that key. The signer is one.
type Attester interface {
	AttestKey(ctx context.Context, nonce string) (attestation []byte, key uint64, err error)
	UnwrapKey(ctx context.Context, key uint64, w rcar.Wrapped) ([32]byte, error)
}

// Client asks one broker.
type Client struct {
	base      string
	transport http.RoundTripper
	attester  Attester
}

// New makes a client for the broker at base, an https URL without a path. The
// transport must know by itself whose certificate the broker has: attestation
// tells the broker who asks, and nothing tells the platform who answers.
func New(base string, transport http.RoundTripper, a Attester) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return nil, fmt.Errorf("key broker %.100q: want https://HOST[:PORT]", base)
	}
	return &Client{base: "https://" + u.Host, transport: transport, attester: a}, nil
}

// Get asks for the resource kbs:///REPOSITORY/TYPE/TAG. The secret is the
// caller's to clear.
func (c *Client) Get(ctx context.Context, resource string) ([]byte, error) {
	path, err := rcar.ResourcePath(resource)
	if err != nil {
		return nil, err
	}
	secret, err := c.get(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("key broker: %s: %w", resource, err)
	}
	return secret, nil
}

func (c *Client) get(ctx context.Context, path string) ([]byte, error) {
	s := &session{client: c}
	challenge, err := s.do(ctx, http.MethodPost, "/kbs/v0/auth", rcar.Request(), rcar.MaxMessage)
	if err != nil {
		return nil, err
	}
	if s.cookie == "" {
		return nil, errors.New("a challenge without a session")
	}
	nonce, err := rcar.ParseChallenge(challenge)
	if err != nil {
		return nil, err
	}
	attestation, key, err := c.attester.AttestKey(ctx, nonce)
	if err != nil {
		return nil, err
	}
	token, err := s.do(ctx, http.MethodPost, "/kbs/v0/attest", attestation, rcar.MaxMessage)
	if err != nil {
		return nil, err
	}
	if err := rcar.CheckToken(token); err != nil {
		return nil, err
	}
	sealed, err := s.do(ctx, http.MethodGet, path, nil, rcar.MaxResponse)
	if err != nil {
		return nil, err
	}
	response, err := rcar.ParseResponse(sealed)
	if err != nil {
		return nil, err
	}
	cek, err := c.attester.UnwrapKey(ctx, key, response.Wrapped)
	if err != nil {
		return nil, err
	}
	return response.Open(&cek)
}

// session is one handshake: what the cookie names at the broker.
type session struct {
	client *Client
	cookie string
}

func (s *session) do(ctx context.Context, method, path string, body []byte, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.client.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if s.cookie != "" {
		req.AddCookie(&http.Cookie{Name: cookieName, Value: s.cookie})
	}
	resp, err := s.client.transport.RoundTrip(req) // follows no redirect
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: an answer of more than %d bytes", path, limit)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: %s: status %d, %s", ErrRefused, path, resp.StatusCode, rcar.ParseRefusal(b))
	}
	return b, s.remember(resp)
}

// remember keeps the session's cookie; a broker may renew it, not replace it.
func (s *session) remember(resp *http.Response) error {
	for _, c := range resp.Cookies() {
		switch {
		case c.Name != cookieName:
		case !cookieForm.MatchString(c.Value):
			return errors.New("a session with a name of another form")
		case s.cookie != "" && c.Value != s.cookie:
			return errors.New("another session in the middle of one")
		default:
			s.cookie = c.Value
		}
	}
	return nil
}
