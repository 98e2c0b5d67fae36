package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"

	"omega/attest"
)

// retryPause is how soon a platform that did not verify is asked again.
const retryPause = 2 * time.Second

// errOtherKey reports a connection that ends at a key that no evidence names.
var errOtherKey = errors.New("the connection ends at another key than the one that was verified")

// channel keeps one platform verified and passes requests on only while it is.
// What verification found out, the TLS key, is what each connection must have.
type channel struct {
	target *url.URL
	every  time.Duration
	verify func(ctx context.Context) (*verification, error)
	report func(connectEvent)
	now    func() time.Time
	proxy  *http.Transport
	caller caller // whom the platform's policy knows

	turn chan struct{} // one verification at a time

	mu sync.Mutex // guards what follows
	verified
	err   error
	tried time.Time // the last verification, whatever came of it
	epoch context.Context
	end   context.CancelFunc // of the epoch: connections made in it end with it
}

// verified is what holds after a verification.
type verified struct {
	verdict string
	boot    attest.BootClaims
}

func newChannel(target *url.URL, every time.Duration, verify func(ctx context.Context) (*verification, error)) *channel {
	c := &channel{target: target, every: every, verify: verify, now: time.Now, report: func(connectEvent) {}, turn: make(chan struct{}, 1)}
	c.err = errors.New("not verified yet")
	c.proxy = &http.Transport{
		DialTLSContext:         c.dial,
		MaxResponseHeaderBytes: 64 << 10,
		ResponseHeaderTimeout:  2 * time.Minute,
		IdleConnTimeout:        30 * time.Second,
		DisableCompression:     true,
	}
	return c
}

// newCallersChannel is a channel of the caller that the options name. Verifying
// takes no token: the channel's requests bring it, and they end where that led.
func newCallersChannel(target *url.URL, every time.Duration, o verifyOptions, verify func(context.Context, verifyOptions) (*verification, error)) (*channel, error) {
	by, err := o.caller()
	if err != nil {
		return nil, err
	}
	o.Token = ""
	c := newChannel(target, every, func(ctx context.Context) (*verification, error) { return verify(ctx, o) })
	c.caller = by
	return c, nil
}

// speaks is the channel's transport with the caller's token: dial lets through
// only connections that end at the verified key.
func (c *channel) speaks() http.RoundTripper {
	if c.caller.token == "" {
		return c.proxy
	}
	return &bearer{c.caller.token, c.proxy}
}

// ensure returns nil if the platform was verified not long ago, or verifies now.
func (c *channel) ensure(ctx context.Context) error { return c.again(ctx, [32]byte{}) }

// again is ensure where a connection ended at the key seen, which may be that
// of a platform that was started anew: it verifies if that key is not pinned.
func (c *channel) again(ctx context.Context, seen [32]byte) error {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	c.mu.Lock()
	age := c.now().Sub(c.tried)
	first := c.tried.IsZero()
	other := seen != [32]byte{} && seen != c.boot.TLSKey
	err := c.err
	c.mu.Unlock()
	switch {
	case first:
	case err == nil && age < c.every && !other:
		return nil
	case (err != nil || other) && age >= 0 && age < retryPause:
		if err == nil {
			err = errOtherKey
		}
		return err
	}
	v, err := c.verify(ctx)
	if ctx.Err() != nil { // the asker went away: that says nothing about the platform
		return ctx.Err()
	}
	return c.settle(v, err)
}

// settle keeps the outcome of a verification.
func (c *channel) settle(v *verification, err error) error {
	if err == nil && (v == nil || v.Evidence == nil || v.Evidence.Boot.TLSKey.IsZero()) {
		err = errors.New("the evidence names no TLS key")
	}
	c.mu.Lock()
	ev := connectEvent{Event: attest.VerdictRefused, Time: c.now().UTC()}
	c.tried = c.now()
	old := c.boot
	if c.err = err; err != nil {
		ev.Reason = err.Error()
		c.verified = verified{}
		c.endEpoch()
	} else {
		c.verified = verified{v.Verdict, v.Evidence.Boot}
		ev.Event, ev.BootID, ev.TLSKey = v.Verdict, c.boot.BootID.String(), c.boot.TLSKey.String()
		ev.Changed = old.BootID != c.boot.BootID && old != attest.BootClaims{}
		if old != c.boot {
			c.endEpoch()
			c.epoch, c.end = context.WithCancel(context.Background())
		}
	}
	c.mu.Unlock()
	if err != nil || old != (attest.BootClaims{}) && old != v.Evidence.Boot {
		c.proxy.CloseIdleConnections()
	}
	c.report(ev)
	return err
}

func (c *channel) endEpoch() {
	if c.end != nil {
		c.end()
		c.end = nil
	}
}

func (c *channel) close() {
	c.mu.Lock()
	c.endEpoch()
	c.mu.Unlock()
	c.proxy.CloseIdleConnections()
}

// watch verifies anew before a verification is too old, so that also what flows
// for a long time is cut off from a platform that does not verify any more.
func (c *channel) watch(ctx context.Context) {
	for {
		c.mu.Lock()
		wait := c.every - c.now().Sub(c.tried)
		c.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(wait, retryPause)):
			_ = c.ensure(ctx) // the outcome is kept and reported there
		}
	}
}

// dial connects to the platform; the connection must end at the verified key.
func (c *channel) dial(ctx context.Context, network, address string) (net.Conn, error) {
	for retried := false; ; retried = true {
		conn, key, err := dialTLS(ctx, network, address, c.caller)
		if err != nil {
			return nil, err
		}
		c.mu.Lock()
		pinned, epoch := c.err == nil && c.boot.TLSKey == key, c.epoch
		c.mu.Unlock()
		if pinned {
			return &epochConn{conn, context.AfterFunc(epoch, func() { _ = conn.Close() })}, nil
		}
		_ = conn.Close()
		if retried {
			return nil, errOtherKey
		}
		if err := c.again(ctx, key); err != nil {
			return nil, err
		}
	}
}

// epochConn is a connection that is closed when the epoch ends in which it was
// made, whoever reads from it then.
type epochConn struct {
	net.Conn
	forget func() bool
}

func (c *epochConn) Close() error {
	c.forget()
	return c.Conn.Close()
}

// dialTLS connects and returns the SHA-256 of the public key at the other end.
// Nobody vouches for the certificate; the caller compares the key.
func dialTLS(ctx context.Context, network, address string, by caller) (net.Conn, [32]byte, error) {
	d := &tls.Dialer{Config: by.tls()}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, [32]byte{}, err
	}
	certs := conn.(*tls.Conn).ConnectionState().PeerCertificates
	if len(certs) == 0 {
		return nil, [32]byte{}, errors.Join(errors.New("connection without a key"), conn.Close())
	}
	return conn, sha256.Sum256(certs[0].RawSubjectPublicKeyInfo), nil
}

// handler passes requests on to the platform while it is verified.
func (c *channel) handler() http.Handler {
	proxy := &httputil.ReverseProxy{
		Transport:     c.speaks(),
		FlushInterval: -1, // streams flow as they come
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(c.target) // and the Host with it
			for _, name := range []string{"Origin", "Referer"} {
				r.Out.Header.Del(name) // they name this machine
			}
		},
		ModifyResponse: func(r *http.Response) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			r.Header.Set("Omega-Verdict", c.verdict)
			for _, name := range []string{"Alt-Svc", "Strict-Transport-Security"} {
				r.Header.Del(name) // they are about the platform's name, not this one
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) { refuse(w, http.StatusBadGateway, c.why(err)) },
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := c.ensure(r.Context()); err != nil {
			refuse(w, http.StatusBadGateway, err)
			return
		}
		proxy.ServeHTTP(w, r)
	})
}

// why prefers the reason for which the platform is refused to what that did to
// one request.
func (c *channel) why(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	return fmt.Errorf("%s: %w", c.target.Host, err)
}
