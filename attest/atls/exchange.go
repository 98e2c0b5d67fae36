package atls

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"omega/attest"
	"omega/attest/verifier"
	"omega/internal/labelhash"
)

// Protocol is what two platforms agree on by ALPN (RFC 7301) before they
// exchange evidence.
const Protocol = "omega-peer/1"

// ErrRefusedByPeer reports that the other side refused this one's evidence; why
// is in its own log.
var ErrRefusedByPeer = errors.New("the peer refuses this platform's evidence")

// maxMessage bounds a peer's evidence.
const maxMessage = attest.MaxEvidence

// exchangeTimeout bounds an exchange whose context has no end: each side makes
// one report.
const exchangeTimeout = 30 * time.Second

// A Platform is what one side shows of itself.
type Platform struct {
	// Certificate is the TLS certificate with evidence.
	Certificate func() (*tls.Certificate, error)
	// Evidence is JSON of attest.Evidence for a nonce.
	Evidence func(ctx context.Context, nonce [32]byte) ([]byte, error)
}

// A Peer is the other side, after it was appraised.
type Peer struct {
	Evidence *attest.Evidence
	Result   *attest.Result
}

// ClientConfig is the TLS of the side that dials.
func ClientConfig(own Platform, a *Appraiser) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{Protocol},
		InsecureSkipVerify:     true, // evidence takes the place of names and authorities
		SessionTicketsDisabled: true,
		GetClientCertificate:   func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own.Certificate() },
		VerifyConnection:       a.verifyPeer,
	}
}

// ServerConfig is the TLS of the side that listens.
func ServerConfig(own Platform, a *Appraiser) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{Protocol},
		ClientAuth:             tls.RequireAnyClientCert,
		SessionTicketsDisabled: true,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return own.Certificate() },
		VerifyConnection:       a.verifyPeer,
	}
}

// verifyPeer appraises what a certificate can show, before anything is said to
// the peer. The rest follows in Exchange.
func (a *Appraiser) verifyPeer(s tls.ConnectionState) error {
	if s.NegotiatedProtocol != Protocol {
		return fmt.Errorf("%w speaks %.40q, want %s", ErrTLS, s.NegotiatedProtocol, Protocol)
	}
	_, err := a.connection(s, true)
	return err
}

// role is a side of the connection; it is in the nonce, so that what one side
// shows can never be the other's.
type role string

const (
	roleClient role = "client"
	roleServer role = "server"
)

// nonceFor is the nonce that the side of that role must answer on this
// connection. It comes from the connection's own secret (RFC 9266), so it is
// fresh, and another connection has another.
func nonceFor(s *tls.ConnectionState, r role) ([32]byte, error) {
	secret, err := s.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
	if err != nil {
		return [32]byte{}, fmt.Errorf("channel binding: %w", err)
	}
	return labelhash.Sum256("omega/peer-nonce/v1", []byte(r), secret), nil
}

// Exchange shows own evidence on a connection of ClientConfig or ServerConfig,
// appraises the peer's, and returns once both sides have accepted. It closes
// the connection on error. Nothing of the connection may be used before.
func Exchange(ctx context.Context, conn *tls.Conn, client bool, own Platform, a *Appraiser) (*Peer, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	peer, err := exchange(ctx, conn, client, own, a)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return peer, nil
}

func exchange(ctx context.Context, conn *tls.Conn, client bool, own Platform, a *Appraiser) (*Peer, error) {
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	state := conn.ConnectionState()
	if err := a.verifyPeer(state); err != nil { // also where the configuration is another's
		return nil, err
	}
	mine, theirs := roleClient, roleServer
	if !client {
		mine, theirs = theirs, mine
	}
	ask, err := nonceFor(&state, theirs)
	if err != nil {
		return nil, err
	}
	answer, err := nonceFor(&state, mine)
	if err != nil {
		return nil, err
	}
	sent := make(chan error, 1)
	go func() { sent <- show(ctx, conn, own, answer) }()
	raw, err := readMessage(conn)
	if err != nil {
		_ = conn.SetDeadline(time.Unix(1, 0)) // ends show
		<-sent
		return nil, err
	}
	if err := <-sent; err != nil {
		return nil, err
	}
	peer, refusal := a.appraise(raw, ask, keyOf(state.PeerCertificates[0]))
	return peer, conclude(conn, refusal)
}

// show sends own evidence.
func show(ctx context.Context, w io.Writer, own Platform, nonce [32]byte) error {
	b, err := own.Evidence(ctx, nonce)
	if err != nil {
		return fmt.Errorf("own evidence: %w", err)
	}
	if len(b) == 0 || len(b) > maxMessage {
		return fmt.Errorf("own evidence of %d bytes", len(b))
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

// readMessage reads a length, big-endian, and so many bytes. It grows with what
// arrives, not with what is announced.
func readMessage(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("the peer's evidence: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxMessage {
		return nil, fmt.Errorf("%w: the peer announces evidence of %d bytes, limit %d", attest.ErrSignature, n, maxMessage)
	}
	b, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err == nil && len(b) != int(n) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("the peer's evidence: %w", err)
	}
	return b, nil
}

// appraise holds the peer's evidence against nonce, key and policy.
func (a *Appraiser) appraise(raw []byte, nonce, key [32]byte) (*Peer, error) {
	e, err := attest.ParseEvidence(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", attest.ErrSignature, err)
	}
	p, err := a.params(e.Report)
	if err != nil {
		return nil, err
	}
	p.Nonce, p.TLSKey, p.Now, p.Known = nonce, &key, a.now(), nil
	r, err := verifier.Appraise(e, p)
	return &Peer{Evidence: e, Result: r}, err
}

// Verdicts on the wire.
const (
	accepted = 'A'
	refused  = 'R'
)

// conclude tells the peer what came of its evidence and waits for the same.
func conclude(conn io.ReadWriter, refusal error) error {
	verdict := [1]byte{accepted}
	if refusal != nil {
		verdict[0] = refused
	}
	if _, err := conn.Write(verdict[:]); err != nil && refusal == nil {
		return fmt.Errorf("verdict: %w", err)
	}
	if refusal != nil {
		return refusal
	}
	var theirs [1]byte
	if _, err := io.ReadFull(conn, theirs[:]); err != nil {
		return fmt.Errorf("the peer's verdict: %w", err)
	}
	if theirs[0] != accepted {
		return ErrRefusedByPeer
	}
	return nil
}
