package front

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Times of a connection: a slow client costs a bounded amount.
const (
	// readHeaderTimeout bounds the handshake too.
	readHeaderTimeout = 5 * time.Second
	idleTimeout       = 5 * time.Second
	maxHeaderBytes    = 8 << 10
)

// Serve accepts connections on l until ctx ends. It speaks HTTP/1.1 only: with
// HTTP/2 each of the connections could hold hundreds of requests, and the
// process would run out of memory, which ends the platform.
func Serve(ctx context.Context, l net.Listener, id *Identity, h http.Handler, log *slog.Logger) error {
	bounded := limit(l, maxConnections, maxPerClient)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	server := &http.Server{
		Handler:           h,
		Protocols:         protocols,
		ConnState:         bounded.state,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      2 * requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS13,
			// Whose key it is says the policy, not who signed its certificate.
			ClientAuth: tls.RequestClientCert,
			// Tickets would outlive a certificate's evidence, and its age.
			SessionTicketsDisabled: true,
			GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return id.Certificate() },
		},
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	err := server.ServeTLS(bounded, "", "")
	if errors.Is(err, http.ErrServerClosed) {
		return ctx.Err()
	}
	return fmt.Errorf("serving: %w", err)
}
