package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"omega/attest"
)

// connectUsage is the one line of `omega connect`'s arguments.
const connectUsage = "URL [--listen 127.0.0.1:PORT] [--every 10m] [--allow-remote] [--json] and the flags of verify"

// Bounds of `omega connect`.
const (
	minEvery     = 10 * time.Second
	maxEvery     = 24 * time.Hour
	connectGrace = 3 * time.Second // for answers under way when it ends
)

// connectOptions say what is connected to, and where clients come in.
type connectOptions struct {
	verify verifyOptions
	listen string
	every  time.Duration
	remote bool
	json   bool
}

// runConnect is `omega connect`: ordinary clients speak HTTP to this machine,
// and reach a platform that is verified.
func runConnect(ctx context.Context, e *env, args []string) error {
	var o connectOptions
	fs := e.flags("connect")
	o.verify.flags(fs)
	fs.StringVar(&o.listen, "listen", "127.0.0.1:0", "where clients come in; port 0 takes a free one")
	fs.DurationVar(&o.every, "every", 10*time.Minute, "how long a verification holds")
	fs.BoolVar(&o.remote, "allow-remote", false, "let other machines come in too, over plain HTTP")
	fs.BoolVar(&o.json, "json", false, "print events as JSON, one a line")
	rest, err := parseMixed(fs, args)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return fmt.Errorf("connect: want %s", connectUsage)
	}
	o.verify.Source = rest[0]
	target, err := o.check()
	if err != nil {
		return err
	}
	return connect(ctx, e, o, target)
}

// check refuses options that make no sense together, and returns the platform's
// address.
func (o *connectOptions) check() (*url.URL, error) {
	u, err := url.Parse(o.verify.Source)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" {
		return nil, fmt.Errorf("%s: want https://HOST[:PORT]", o.verify.Source)
	}
	if o.verify.Nonce != "" {
		return nil, errors.New("--nonce is for files; a platform is asked with a fresh one")
	}
	if o.every < minEvery || o.every > maxEvery {
		return nil, fmt.Errorf("--every %s: want between %s and %s", o.every, minEvery, maxEvery)
	}
	host, _, err := net.SplitHostPort(o.listen)
	if err != nil {
		return nil, fmt.Errorf("--listen %s: want ADDRESS:PORT", o.listen)
	}
	addr, err := netip.ParseAddr(host)
	if host != "localhost" && (err != nil || !addr.IsLoopback()) && !o.remote {
		return nil, fmt.Errorf("--listen %s is not this machine alone; --allow-remote says that others may come in", o.listen)
	}
	return u, nil
}

// connect verifies once, then serves until ctx ends.
func connect(ctx context.Context, e *env, o connectOptions, target *url.URL) error {
	c, err := newCallersChannel(target, o.every, o.verify, func(ctx context.Context, o verifyOptions) (*verification, error) { return verifyPlatform(ctx, e, o) })
	if err != nil {
		return err
	}
	c.report = func(ev connectEvent) { ev.print(e, o.json) }
	if err := c.ensure(ctx); err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return err
	}
	local := "http://" + l.Addr().String()
	if err := printLocal(e, o.json, local); err != nil {
		return errors.Join(err, l.Close())
	}
	e.sayf("%s leads to %s; Ctrl-C ends it", local, target)
	server := &http.Server{
		Handler:           &doorkeeper{local: l.Addr().String(), remote: o.remote, next: c.handler()},
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	watching := make(chan struct{})
	go func() { defer close(watching); c.watch(ctx) }()
	select {
	case err = <-served:
	case <-ctx.Done():
		err = nil
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectGrace)
		defer cancel()
		if server.Shutdown(end) != nil {
			_ = server.Close()
		}
	}
	c.close()
	if ctx.Err() == nil {
		return err
	}
	<-watching
	return nil
}

func printLocal(e *env, asJSON bool, local string) error {
	if asJSON {
		return json.NewEncoder(e.Stdout).Encode(map[string]string{"event": "listening", "url": local})
	}
	_, err := fmt.Fprintln(e.Stdout, local)
	return err
}

// connectEvent is one verification, as it is printed.
type connectEvent struct {
	Event   string    `json:"event"` // verified, emulated or refused
	Time    time.Time `json:"time"`
	BootID  string    `json:"boot_id,omitempty"`
	TLSKey  string    `json:"tls_key,omitempty"`
	Changed bool      `json:"changed,omitempty"` // the boot is another than before
	Reason  string    `json:"reason,omitempty"`
}

func (ev *connectEvent) print(e *env, asJSON bool) {
	if asJSON {
		_ = json.NewEncoder(e.Stdout).Encode(ev) // whoever reads it went away
	}
	switch {
	case ev.Event == attest.VerdictRefused:
		e.sayf("refused: %s; requests are answered 502 until the platform verifies again", ev.Reason)
	case ev.Changed:
		e.sayf("%s: the platform was started anew (boot %s) and verifies", ev.Event, ev.BootID)
	default:
		e.sayf("%s: boot %s, TLS key %s is pinned", ev.Event, ev.BootID, ev.TLSKey)
	}
	if ev.Event == attest.VerdictEmulated {
		e.sayf("An emulated PSP signed this report. It proves the path of evidence, no hardware.")
	}
}
