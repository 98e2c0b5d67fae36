package main

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"
)

// connect starts HTTP/2 without TLS on the link. All requests are streams of this one connection.
func connect(link net.Conn) (http.RoundTripper, error) {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	t := &http.Transport{
		Protocols:          protocols,
		DisableCompression: true,
		HTTP2:              &http.HTTP2Config{MaxReadFrameSize: part},
		DialContext:        func(context.Context, string, string) (net.Conn, error) { return link, nil },
	}
	return t.NewClientConn(context.Background(), "http", "gateway:80")
}

// part is how much of a message goes on at once. Each read and each write costs much
// inside of a sandbox, and the usual 16 and 32 KiB make many of a large message.
const part = 256 << 10

// parts are the buffers between the two sides of a proxy.
type parts struct{ free sync.Pool }

// Get takes a buffer.
func (p *parts) Get() []byte {
	if b, ok := p.free.Get().(*[part]byte); ok {
		return b[:]
	}
	return make([]byte, part)
}

// Put gives it back.
func (p *parts) Put(b []byte) { p.free.Put((*[part]byte)(b)) }

// handler answers HTTP/1.1 with what comes back over the link.
func handler(link http.RoundTripper) http.Handler {
	proxy := &httputil.ReverseProxy{
		Transport: link,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme = "http"
			r.Out.URL.Host = "gateway"
		},
		BufferPool:    &parts{},
		FlushInterval: -1, // every write at once: events must not wait for a full buffer
		ErrorLog:      log.New(io.Discard, "", 0),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "gateway: "+err.Error(), http.StatusBadGateway)
		},
	}
	return direct(link, proxy)
}

// direct hands on what is for the gateway, and what is for the web through it: an absolute URL goes as
// the host that it names, and a tunnel as a stream of its own.
func direct(link http.RoundTripper, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodConnect:
			connectThrough(w, r, link)
			return
		case r.URL.IsAbs() && r.URL.Scheme != "http":
			http.Error(w, "no proxy for "+r.URL.Scheme+": use CONNECT", http.StatusBadRequest)
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

// hijacked is the request body that a client's connection has become. Its end
// is not the connection's: what comes back may still be on its way.
type hijacked struct {
	io.Reader
	conn net.Conn
}

func (h hijacked) Close() error { return h.conn.SetReadDeadline(time.Unix(1, 0)) }

// connectThrough makes a tunnel of one stream of the link.
func connectThrough(w http.ResponseWriter, r *http.Request, link http.RoundTripper) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Time{})
	out := (&http.Request{
		Method: http.MethodConnect, URL: &url.URL{Scheme: "http", Host: r.Host}, Host: r.Host,
		Header: http.Header{}, Body: hijacked{buffered, conn}, ContentLength: -1,
	}).WithContext(context.Background())
	resp, err := link.RoundTrip(out)
	if err != nil {
		resp = &http.Response{StatusCode: http.StatusBadGateway, ProtoMajor: 1, ProtoMinor: 1, Body: io.NopCloser(strings.NewReader("gateway: " + err.Error()))}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		resp.ProtoMajor, resp.ProtoMinor, resp.Close = 1, 1, true
		_ = resp.Write(conn) // the agent has gone if this fails
		return
	}
	if _, err := io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n"); err == nil {
		_, _ = io.Copy(conn, resp.Body) // the other direction is the request's body
	}
}
