package front

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"omega/attest/atls"
)

// Times of a connection: a slow client costs a bounded amount.
const (
	// readHeaderTimeout bounds the handshake too.
	readHeaderTimeout = 5 * time.Second
	idleTimeout       = 5 * time.Second
	maxHeaderBytes    = 8 << 10
)

// A Service is what the front serves, and under which key.
type Service struct {
	Identity *Identity
	Handler  http.Handler
	// Peers, if given, are other platforms, by attested TLS in both directions.
	Peers *Peers
	Log   *slog.Logger
}

// Serve accepts connections on l until ctx ends. It speaks HTTP/1.1 only: with
// HTTP/2 each of the connections could hold hundreds of requests, and the
// process would run out of memory, which ends the platform.
func (s *Service) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	bounded := limit(l, maxConnections, maxPerClient)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	server := &http.Server{
		Handler:           s.Handler,
		Protocols:         protocols,
		ConnState:         bounded.state,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      2 * requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
		TLSConfig:         s.tls(),
	}
	var peers sync.WaitGroup
	defer peers.Wait()
	if s.Peers != nil {
		g := newGate(ctx, s.Peers, bounded, s.Handler)
		server.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){atls.Protocol: g.take}
		peers.Go(func() { _ = g.server.Serve(g.conns) })
		defer g.server.Close()
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	err := server.ServeTLS(bounded, "", "")
	if errors.Is(err, http.ErrServerClosed) {
		return ctx.Err()
	}
	return fmt.Errorf("serving: %w", err)
}

func (s *Service) tls() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// Whose key it is says the policy, not who signed its certificate.
		ClientAuth: tls.RequestClientCert,
		// Tickets would outlive a certificate's evidence, and its age.
		SessionTicketsDisabled: true,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.Identity.Certificate() },
		GetConfigForClient:     func(hello *tls.ClientHelloInfo) (*tls.Config, error) { return s.Peers.config(hello), nil },
	}
}
