package front

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"sync"
	"time"
)

// Limits of the listener: a slow or flooding client costs a bounded amount.
const (
	maxConnections    = 256
	readHeaderTimeout = 5 * time.Second
	idleTimeout       = 30 * time.Second
	maxHeaderBytes    = 8 << 10
)

// Identity is the front's TLS key and certificate, made at boot. The
// certificate is self-signed: trust in the key comes from evidence, which names
// its digest, and from nothing else.
type Identity struct {
	Certificate tls.Certificate
	KeyDigest   [32]byte // SHA-256 of the SubjectPublicKeyInfo
}

// NewIdentity makes a P-256 key and a certificate valid from notBefore for ten
// years: the key lives for one boot, and the guest's clock is the host's claim.
func NewIdentity(notBefore time.Time) (*Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("TLS key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "omega platform"},
		DNSNames:     []string{"omega.invalid"},
		NotBefore:    notBefore,
		NotAfter:     notBefore.AddDate(10, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("TLS certificate: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("TLS key: %w", err)
	}
	return &Identity{
		Certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		KeyDigest:   sha256.Sum256(spki),
	}, nil
}

// Serve accepts connections on l until ctx ends. It speaks HTTP/1.1 only: with
// HTTP/2 each of the connections could hold hundreds of requests, and the
// process would run out of memory, which ends the platform.
func Serve(ctx context.Context, l net.Listener, id *Identity, h http.Handler, log *slog.Logger) error {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	server := &http.Server{
		Handler:           h,
		Protocols:         protocols,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      2 * requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		TLSConfig: &tls.Config{
			MinVersion:   tls.VersionTLS13,
			Certificates: []tls.Certificate{id.Certificate},
		},
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	err := server.ServeTLS(&limited{Listener: l, slots: make(chan struct{}, maxConnections)}, "", "")
	if errors.Is(err, http.ErrServerClosed) {
		return ctx.Err()
	}
	return fmt.Errorf("serving: %w", err)
}

// limited is a listener that has at most cap(slots) connections open.
type limited struct {
	net.Listener
	slots chan struct{}
}

// acceptPause is the wait after a connection that could not be accepted.
const acceptPause = 50 * time.Millisecond

// Accept fails only once the listener is closed. Whatever else goes wrong (no
// memory, no descriptors) passes, and the server must outlive it.
func (l *limited) Accept() (net.Conn, error) {
	l.slots <- struct{}{}
	for {
		c, err := l.Listener.Accept()
		switch {
		case err == nil:
			return &slotConn{Conn: c, slots: l.slots}, nil
		case errors.Is(err, net.ErrClosed):
			<-l.slots
			return nil, err
		}
		time.Sleep(acceptPause)
	}
}

// slotConn gives its slot back when it is closed, once.
type slotConn struct {
	net.Conn
	slots chan struct{}
	once  sync.Once
}

func (c *slotConn) Close() error {
	c.once.Do(func() { <-c.slots })
	return c.Conn.Close()
}
