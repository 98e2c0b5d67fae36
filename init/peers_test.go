package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"omega/attest"
	"omega/internal/wire"
)

// frontAndGateway are both ends of their channel, in one process.
func frontAndGateway(t *testing.T) (*frontChild, *gatewayChild) {
	t.Helper()
	a, b, err := wire.Pair()
	if err != nil {
		t.Fatal(err)
	}
	client, err := wire.NewConn(a)
	if err != nil {
		t.Fatal(err)
	}
	server, err := wire.NewConn(b)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	g := &gatewayChild{c: &child{log: log}, dialer: newDialer()}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = wire.Serve(ctx, server, map[string]wire.Handler{opDials: g.dialer.take, opDialed: handle(g.dialer.done),
			opPlatform: handleFile(func(_ context.Context, req platformID, f *os.File) (nothing, error) { return g.platform(ctx, req, f) })})
	}()
	t.Cleanup(func() { cancel(); _ = client.Close(); <-done })
	return &frontChild{c: &child{log: log}, gateway: wire.NewClient(client)}, g
}

// echo listens and sends back what it gets.
func echo(t *testing.T) net.Conn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		if c, err := l.Accept(); err == nil {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheFrontAttestsWhatTheGatewayDials(t *testing.T) {
	f, g := frontAndGateway(t)
	go func() {
		var reply dialsReply
		files, err := f.gateway.Call(t.Context(), opDials, nothing{}, &reply)
		if err != nil || len(files) != 2 {
			t.Errorf("%d files, %v", len(files), err)
			return
		}
		conns, err := connections(files)
		if err != nil {
			t.Error(err)
			return
		}
		f.dialed(t.Context(), dialedRequest{ID: reply.ID, Platform: platformID{Boot: attest.Bytes16{7}}})
		carry(conns[0], conns[1])
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, platform, err := g.dialer.attest(ctx, echo(t))
	if err != nil || platform.Boot != [16]byte{7} {
		t.Fatalf("%+v, %v", platform, err)
	}
	defer conn.Close()
	b := make([]byte, 5)
	if _, err = io.WriteString(conn, "hello"); err == nil {
		_, err = io.ReadFull(conn, b)
	}
	if err != nil || string(b) != "hello" {
		t.Errorf("%q %v", b, err)
	}
}

func TestAPlatformWithoutPeersAttestsNobody(t *testing.T) {
	f, g := frontAndGateway(t)
	life, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); f.dialPeers(life, nil) }()
	if _, _, err := g.dialer.attest(t.Context(), echo(t)); err == nil || !strings.Contains(err.Error(), "name no peers") {
		t.Errorf("%v", err)
	}
	cancel()
	<-ended
	short, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if _, _, err := g.dialer.attest(short, echo(t)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody takes it: %v", err)
	}
	if n := len(g.dialer.open); n != 0 {
		t.Errorf("%d are still open", n)
	}
}

func TestAPeersLinkComesToAGatewayThatHasStarted(t *testing.T) {
	f, _ := frontAndGateway(t)
	var reply nothing
	conn, theirs, err := streamPair()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	defer theirs.Close()
	if _, err := f.gateway.Call(t.Context(), opPlatform, platformID{}, &reply, theirs); err == nil || !strings.Contains(err.Error(), errNotStarted.Error()) {
		t.Errorf("%v", err)
	}
	if _, err := f.gateway.Call(t.Context(), opPlatform, platformID{}, &reply); err == nil {
		t.Error("taken without a descriptor")
	}
}
