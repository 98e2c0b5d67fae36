package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"omega/agentloader/bundle"
)

// accept lists what a manifest may be. Other forms would have other digests.
const accept = bundle.TypeOCIManifest + ", application/vnd.oci.image.index.v1+json"

// maxRedirects is enough for a registry in front of an object store.
const maxRedirects = 3

type doer interface {
	Do(*http.Request) (*http.Response, error)
}

// Open returns a repository. With a mirror, a registry's host in its name is passed over.
func (c *Client) Open(ctx context.Context, repository string) (*Repository, error) {
	host, path := split(repository)
	base := url.URL{Scheme: "https", Host: host}
	if c.mirror != nil {
		base = url.URL{Scheme: c.mirror.Scheme, Host: c.mirror.Host}
	}
	if base.Host == "" {
		return nil, fmt.Errorf("repository %.80q names no registry, and there is no mirror", repository)
	}
	base.Path = "/v2/" + path + "/"
	r := &Repository{cfg: c.cfg, base: base}
	t := c.transport(base)
	if base.Scheme == "http" {
		r.doer = client(t)
		return r, nil
	}
	// Public registries hand out tokens even for what everyone may read.
	repo, err := name.NewRepository(base.Host + "/" + path)
	if err != nil {
		return nil, fmt.Errorf("repository %.80q: %w", repository, err)
	}
	err = r.retry(ctx, repository, func(ctx context.Context) error {
		authed, err := transport.NewWithContext(ctx, repo.Registry, authn.Anonymous, t, []string{repo.Scope(transport.PullScope)})
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		r.doer = client(authed)
		return nil
	})
	return r, err
}

// split cuts a registry's host off a repository's name (docker's rule: a host has a dot, a port, or is localhost).
func split(repository string) (host, path string) {
	first, rest, ok := strings.Cut(repository, "/")
	if ok && (strings.ContainsAny(first, ".:") || first == "localhost") {
		return first, rest
	}
	return "", repository
}

func client(t http.RoundTripper) *http.Client {
	return &http.Client{Transport: t, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		first := via[0].URL
		switch {
		case len(via) > maxRedirects:
			return errors.New("too many redirects")
		case r.URL.Scheme != first.Scheme && r.URL.Scheme != "https":
			return fmt.Errorf("redirect to %s", r.URL.Scheme)
		}
		return nil
	}}
}

// transport dials with care: only the registry itself may have a private address, a redirect may not lead to one.
func (c *Client) transport(base url.URL) *http.Transport {
	own := base.Host
	if base.Port() == "" {
		own = net.JoinHostPort(base.Hostname(), map[string]string{"http": "80", "https": "443"}[base.Scheme])
	}
	return &http.Transport{
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.cfg.Roots},
		TLSHandshakeTimeout:    c.cfg.Idle,
		ResponseHeaderTimeout:  c.cfg.Idle,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
		IdleConnTimeout:        time.Minute,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			d := &net.Dialer{Timeout: c.cfg.Idle}
			to, mapped := c.cfg.Dial[addr]
			if !mapped {
				to = addr
			}
			if addr != own && !mapped {
				d.ControlContext = publicOnly
			}
			return d.DialContext(ctx, network, to)
		},
	}
}

// publicOnly refuses addresses that only this machine or its neighbours can reach.
func publicOnly(_ context.Context, _, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if a := ap.Addr().Unmap(); !a.IsGlobalUnicast() || a.IsPrivate() {
		return fmt.Errorf("redirect to the private address %s", a)
	}
	return nil
}

// retry calls try until it succeeds or a further try would be of no use.
func (r *Repository) retry(ctx context.Context, what string, try func(context.Context) error) error {
	wait := r.cfg.Backoff
	for n := 1; ; n++ {
		err := try(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%s: %w: %w", what, err, context.Cause(ctx))
		case n == r.cfg.Tries || !errors.Is(err, ErrUnavailable):
			return fmt.Errorf("%s (try %d): %w", what, n, err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		wait *= 2
	}
}

// get makes one request and copies at most max bytes, exactly size where size is not negative. A transfer
// that broke off goes on where it stopped, if the registry can do that.
func (r *Repository) get(ctx context.Context, t *transfer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(r.cfg.Idle, func() { cancel(fmt.Errorf("%w: no byte for %v", ErrSlow, r.cfg.Idle)) })
	defer idle.Stop()
	whole := time.AfterFunc(r.cfg.Timeout, func() { cancel(fmt.Errorf("%w: not done after %v", ErrSlow, r.cfg.Timeout)) })
	defer whole.Stop()
	u := r.base
	u.Path += t.path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", accept)
	t.ask(req)
	resp, err := r.doer.Do(req)
	if err != nil {
		return unavailable(ctx, err)
	}
	defer resp.Body.Close()
	if err := t.begin(resp); err != nil {
		return err
	}
	_, err = io.Copy(t, io.LimitReader(&watched{r: resp.Body, idle: idle, every: r.cfg.Idle}, t.max-t.got+1))
	switch {
	case t.err != nil:
		return fmt.Errorf("keeping what was pulled: %w", t.err)
	case err != nil:
		return unavailable(ctx, err)
	}
	return t.end()
}

// unavailable names why a transfer broke off: a slow registry is told apart from a broken one.
func unavailable(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, ErrSlow) {
		return cause
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("%w: %w", ErrSlow, err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

func status(code int) error {
	switch {
	case code == http.StatusOK:
		return nil
	case code == http.StatusNotFound:
		return ErrNotFound
	case code == http.StatusTooManyRequests || code >= 500:
		return fmt.Errorf("%w: HTTP status %d", ErrUnavailable, code)
	}
	return fmt.Errorf("%w: HTTP status %d", errRefused, code)
}

// watched pushes the idle timer back with every byte that comes.
type watched struct {
	r     io.Reader
	idle  *time.Timer
	every time.Duration
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.r.Read(b)
	if n > 0 {
		w.idle.Reset(w.every)
	}
	return n, err
}
