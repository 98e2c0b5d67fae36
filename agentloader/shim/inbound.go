package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"strconv"
	"syscall"
	"time"
)

// How long a request waits for an agent that does not serve yet, and how often it tries.
const (
	waking     = time.Minute
	wakingStep = 20 * time.Millisecond
)

// takeInbound begins to hand requests of the gateway to the agent, if it takes any.
// It returns what the agent has for its standard input and output.
func takeInbound() (stdio []*os.File, err error) {
	own := []*os.File{os.Stdin, os.Stdout}
	if os.Getenv(inboundVariable) == "" {
		return own, nil
	}
	if os.Getenv(portVariable) == "stdio" {
		return takeStdio()
	}
	return own, takePort()
}

// takePort is takeInbound for an agent that serves on a port.
func takePort() error {
	port, err := strconv.ParseUint(os.Getenv(portVariable), 10, 16)
	if err != nil || port == 0 {
		return fmt.Errorf("%s is %q", portVariable, os.Getenv(portVariable))
	}
	conn, err := take(inboundVariable)
	if err != nil {
		return err
	}
	if err := os.Unsetenv(portVariable); err != nil {
		return errors.Join(err, conn.Close())
	}
	go serveInbound(conn, inbound(net.JoinHostPort("127.0.0.1", strconv.FormatUint(port, 10))))
	return nil
}

// serveInbound answers on the one connection until the gateway closes it.
func serveInbound(conn net.Conn, h http.Handler) {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: h, Protocols: protocols, ErrorLog: log.New(io.Discard, "", 0)}
	l := &single{conn: make(chan net.Conn, 1)}
	l.conn <- conn
	close(l.conn)
	_ = server.Serve(l) // it goes on with its connection when there is no further one
}

// single is a listener with one connection to give.
type single struct{ conn chan net.Conn }

// Accept gives the connection, and net.ErrClosed ever after.
func (s *single) Accept() (net.Conn, error) {
	if c, ok := <-s.conn; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

// Close closes nothing: there is no listening socket.
func (s *single) Close() error { return nil }

// Addr is nobody's.
func (s *single) Addr() net.Addr { return &net.UnixAddr{} }

// inbound answers with what the agent's own server says.
func inbound(agent string) http.Handler {
	transport := &http.Transport{
		DisableCompression: true,
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return dialAwake(ctx, agent) },
		MaxIdleConns:       16,
		IdleConnTimeout:    30 * time.Second,
	}
	return &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", agent, agent
		},
		BufferPool:    &parts{},
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "the agent does not answer: "+err.Error(), http.StatusBadGateway)
		},
	}
}

// dialAwake connects to an agent, which may just be starting.
func dialAwake(ctx context.Context, agent string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, waking)
	defer cancel()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", agent)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(wakingStep):
		}
	}
}
