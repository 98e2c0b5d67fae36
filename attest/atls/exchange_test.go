package atls

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"omega/attest"
	"omega/attest/verifier"
)

// meet connects two sides and lets them exchange evidence.
func meet(t *testing.T, client, server func(conn net.Conn) (*Peer, error)) (fromClient, fromServer *Peer, clientErr, serverErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			serverErr = err
			return
		}
		defer c.Close()
		fromClient, serverErr = server(c)
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fromServer, clientErr = client(c)
	if clientErr != nil {
		c.Close()
	}
	<-done
	return fromClient, fromServer, clientErr, serverErr
}

func dialer(ctx context.Context, own Platform, a *Appraiser) func(net.Conn) (*Peer, error) {
	return func(c net.Conn) (*Peer, error) {
		return Exchange(ctx, tls.Client(c, ClientConfig(own, a)), true, own, a)
	}
}

func listener(ctx context.Context, own Platform, a *Appraiser) func(net.Conn) (*Peer, error) {
	return func(c net.Conn) (*Peer, error) {
		return Exchange(ctx, tls.Server(c, ServerConfig(own, a)), false, own, a)
	}
}

func TestTwoPlatformsAppraiseEachOtherByTheirOwnPolicies(t *testing.T) {
	a, b := newMachine(t, 1), newMachine(t, 2)
	fromA, fromB, clientErr, serverErr := meet(t,
		dialer(t.Context(), a.platform(t), b.appraiser(t)), listener(t.Context(), b.platform(t), a.appraiser(t)))
	if clientErr != nil || serverErr != nil {
		t.Fatalf("client: %v, server: %v", clientErr, serverErr)
	}
	if fromA.Evidence.Boot != a.boot || fromB.Evidence.Boot != b.boot {
		t.Error("each side has the claims of another")
	}
	if fromA.Result.Verdict != attest.VerdictEmulated || fromB.Result.Verdict != attest.VerdictEmulated {
		t.Errorf("verdicts %s and %s", fromA.Result.Verdict, fromB.Result.Verdict)
	}
}

// TestAttacksOnAChannelAreRefused has a platform a that dials b. In each, one
// side is an attacker or shows what it should not.
func TestAttacksOnAChannelAreRefused(t *testing.T) {
	a, b, evil := newMachine(t, 1), newMachine(t, 2), newMachine(t, 3)
	honestA, honestB := a.platform(t), b.platform(t)
	yesterday, err := b.evidence(t.Context(), [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	type attack struct {
		name           string
		server         Platform
		change         func(client, server *Appraiser)
		class          error
		words          string
		refusedByOther bool // the server refuses, the client learns only that
	}
	relayed := func(m *machine) Platform { // evil ends the TLS and asks b for evidence
		p := m.platform(t)
		p.Evidence = b.evidence
		return p
	}
	tests := []attack{
		{"another platform answers", evil.platform(t), nil, attest.ErrMismatch, "measurement", false},
		{"a relay of b's evidence over evil's channel", relayed(sameRelease(evil, b)), nil, attest.ErrMismatch, "tls_key", false},
		{"evidence of yesterday", Platform{honestB.Certificate, func(context.Context, [32]byte) ([]byte, error) { return yesterday, nil }}, nil, attest.ErrMismatch, "nonce", false},
		{"b's certificate around evil's key", Platform{func() (*tls.Certificate, error) {
			return certificate(t, evil.key, record(b.token(t, time.Now())), time.Now()), nil
		}, b.evidence}, nil, attest.ErrMismatch, "another key", false},
		{"an expired certificate", Platform{func() (*tls.Certificate, error) {
			return certificate(t, b.key, record(b.token(t, time.Now().Add(-48*time.Hour))), time.Now()), nil
		}, b.evidence}, nil, attest.ErrSignature, "was not renewed", false},
		{"emulated evidence where no test root was measured", honestB, func(client, _ *Appraiser) { client.Params.EmulatedRoot = nil }, attest.ErrSignature, "emulated", false},
		{"an agent that must run does not", honestB, func(client, _ *Appraiser) {
			client.Params.Policy = &verifier.Policy{Report: client.Params.Report, MustRun: []string{"researcher"}}
		}, attest.ErrMismatch, "must_run", false},
		{"garbage for evidence", Platform{honestB.Certificate, func(context.Context, [32]byte) ([]byte, error) { return []byte("x"), nil }}, nil, attest.ErrSignature, "evidence", false},
		{"the server refuses the client's session", honestB, func(_, server *Appraiser) {
			server.Params.Policy = &verifier.Policy{Report: server.Params.Report, MustRun: []string{"researcher"}}
		}, ErrRefusedByPeer, "refuses", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client, server := b.appraiser(t), a.appraiser(t)
			if tt.change != nil {
				tt.change(client, server)
			}
			_, peer, clientErr, serverErr := meet(t, dialer(t.Context(), honestA, client), listener(t.Context(), tt.server, server))
			if !errors.Is(clientErr, tt.class) || !strings.Contains(clientErr.Error(), tt.words) || peer != nil {
				t.Errorf("client: %v, want %v with %q", clientErr, tt.class, tt.words)
			}
			if serverErr == nil {
				t.Error("the server was told that all is well")
			}
		})
	}
}

// sameRelease is a machine of the attacker's that runs b's very release.
func sameRelease(m, b *machine) *machine {
	out := *m
	out.launch, out.boot.PolicyDigest = b.launch, b.boot.PolicyDigest
	return &out
}

func TestAClientThatProvesNothingIsNotServed(t *testing.T) {
	a, b := newMachine(t, 1), newMachine(t, 2)
	server := listener(t.Context(), b.platform(t), a.appraiser(t))
	tests := []struct {
		name   string
		client func(c net.Conn) (*Peer, error)
		words  string
	}{
		{"no certificate", func(c net.Conn) (*Peer, error) {
			conn := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{Protocol}})
			_, err := io.Copy(io.Discard, conn)
			return nil, err
		}, "certificate"},
		{"TLS 1.2", func(c net.Conn) (*Peer, error) {
			return nil, tls.Client(c, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, NextProtos: []string{Protocol}}).Handshake()
		}, "version"},
		{"another protocol", func(c net.Conn) (*Peer, error) {
			cfg := ClientConfig(a.platform(t), b.appraiser(t))
			cfg.NextProtos = []string{"http/1.1"}
			return nil, tls.Client(c, cfg).Handshake()
		}, "protocol"},
		{"no protocol", func(c net.Conn) (*Peer, error) {
			cfg := ClientConfig(a.platform(t), b.appraiser(t))
			cfg.NextProtos, cfg.VerifyConnection = nil, nil
			conn := tls.Client(c, cfg)
			_, err := io.Copy(io.Discard, conn)
			return nil, err
		}, "speaks"},
		{"evidence without an end", func(c net.Conn) (*Peer, error) {
			conn := tls.Client(c, ClientConfig(a.platform(t), b.appraiser(t)))
			_, err := conn.Write(binary.BigEndian.AppendUint32(nil, 1<<31))
			if err == nil {
				_, err = io.Copy(io.Discard, conn)
			}
			return nil, err
		}, "announces"},
		{"half of its evidence", func(c net.Conn) (*Peer, error) {
			conn := tls.Client(c, ClientConfig(a.platform(t), b.appraiser(t)))
			_, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, 1000), 'x'))
			return nil, errors.Join(err, conn.Close())
		}, "unexpected EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, _, err := meet(t, tt.client, server)
			if err == nil || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("server: %v, want an error with %q", err, tt.words)
			}
		})
	}
}

func TestASilentPeerIsGivenUp(t *testing.T) {
	a, b := newMachine(t, 1), newMachine(t, 2)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	silent := a.platform(t)
	silent.Evidence = func(ctx context.Context, _ [32]byte) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	begin := time.Now()
	_, _, clientErr, serverErr := meet(t, dialer(ctx, silent, b.appraiser(t)), listener(ctx, b.platform(t), a.appraiser(t)))
	if clientErr == nil || serverErr == nil || time.Since(begin) > 10*time.Second {
		t.Errorf("client %v, server %v after %s", clientErr, serverErr, time.Since(begin))
	}
}

// TestEachConnectionAndEachSideHasANonceOfItsOwn: evidence made for one side of
// one connection answers nothing else.
func TestEachConnectionAndEachSideHasANonceOfItsOwn(t *testing.T) {
	a, b := newMachine(t, 1), newMachine(t, 2)
	seen := map[[32]byte]bool{}
	note := func(p Platform, into chan [32]byte) Platform {
		inner := p.Evidence
		p.Evidence = func(ctx context.Context, nonce [32]byte) ([]byte, error) {
			into <- nonce
			return inner(ctx, nonce)
		}
		return p
	}
	nonces := make(chan [32]byte, 4)
	for range 2 {
		_, _, clientErr, serverErr := meet(t,
			dialer(t.Context(), note(a.platform(t), nonces), b.appraiser(t)), listener(t.Context(), note(b.platform(t), nonces), a.appraiser(t)))
		if clientErr != nil || serverErr != nil {
			t.Fatal(clientErr, serverErr)
		}
	}
	for range 4 {
		seen[<-nonces] = true
	}
	if len(seen) != 4 {
		t.Errorf("%d nonces for two connections", len(seen))
	}
}
