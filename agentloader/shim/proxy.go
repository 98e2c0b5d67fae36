package main

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
)

// connect starts HTTP/2 without TLS on the link. All requests are streams of this one connection.
func connect(link net.Conn) (http.RoundTripper, error) {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	t := &http.Transport{
		Protocols:          protocols,
		DisableCompression: true,
		DialContext:        func(context.Context, string, string) (net.Conn, error) { return link, nil },
	}
	return t.NewClientConn(context.Background(), "http", "gateway:80")
}

// handler answers HTTP/1.1 with what comes back over the link.
func handler(link http.RoundTripper) http.Handler {
	proxy := &httputil.ReverseProxy{
		Transport: link,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme = "http"
			r.Out.URL.Host = "gateway"
		},
		FlushInterval: -1, // every write at once: events must not wait for a full buffer
		ErrorLog:      log.New(io.Discard, "", 0),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "gateway: "+err.Error(), http.StatusBadGateway)
		},
	}
	return direct(proxy)
}

// direct turns away clients that take the shim for a forward proxy: only the gateway is behind it.
func direct(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodConnect || r.URL.IsAbs() {
			http.Error(w, "no proxy: this sandbox reaches only what the policy names, through the gateway's own paths", http.StatusForbidden)
			return
		}
		// An agent may read the answer while it still sends: without this the rest of the request is dropped.
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		next.ServeHTTP(w, r)
	})
}
