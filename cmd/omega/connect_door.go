package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
)

// doorkeeper lets in what a program on this machine sent, or a page that came
// from here. A page from elsewhere can make a browser send requests to this
// address, under a name of its own (DNS rebinding) or across origins; both show.
type doorkeeper struct {
	local  string // address and port that clients come in at
	remote bool   // any address of this machine will do
	next   http.Handler
}

func (d *doorkeeper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := d.check(r); err != nil {
		refuse(w, http.StatusForbidden, err)
		return
	}
	d.next.ServeHTTP(w, r)
}

func (d *doorkeeper) check(r *http.Request) error {
	if r.Method == http.MethodConnect || r.URL.Host != "" {
		return errors.New("this is no forward proxy: ask for a path")
	}
	if !d.ours(r.Host) {
		return fmt.Errorf("host %.80q is not this address: a page may have been sent here under another name", r.Host)
	}
	for _, origin := range r.Header.Values("Origin") {
		u, err := url.Parse(origin)
		if err != nil || u.Scheme != "http" || u.Host != r.Host {
			return fmt.Errorf("origin %.80q: only pages from this address may ask", origin)
		}
	}
	for _, site := range r.Header.Values("Sec-Fetch-Site") { // W3C Fetch Metadata
		if site != "same-origin" && site != "none" {
			return fmt.Errorf("a %.20s page asked: only pages from this address may", site)
		}
	}
	return nil
}

// ours reports whether a Host header names this address: by number, or as
// localhost. A number cannot be rebound.
func (d *doorkeeper) ours(hostPort string) bool {
	host, port, err := net.SplitHostPort(hostPort)
	_, own, ownErr := net.SplitHostPort(d.local)
	if err != nil || ownErr != nil || port != own {
		return false
	}
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && (d.remote || addr.IsLoopback())
}

// refuse answers in words that a person at the other end can read.
func refuse(w http.ResponseWriter, status int, err error) {
	body, _ := json.Marshal(map[string]string{"error": "omega connect: " + err.Error()}) // a map of strings always encodes
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
