package front

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// flaky is a listener whose Accept fails twice before each connection.
type flaky struct {
	net.Listener
	calls int
}

func (f *flaky) Accept() (net.Conn, error) {
	if f.calls++; f.calls%3 != 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.ENOMEM}
	}
	return f.Listener.Accept()
}

func loopback(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func dial(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestAMomentWithoutMemoryDoesNotEndTheListener(t *testing.T) {
	inner := loopback(t)
	l := limit(&flaky{Listener: inner}, 2, 2)
	for range 2 {
		dial(t, inner)
		got, err := l.Accept()
		if err != nil {
			t.Fatalf("Accept ended: %v", err)
		}
		defer got.Close()
	}
	inner.Close()
	if _, err := limit(inner, 1, 1).Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed listener gives %v", err)
	}
}

// closed reports whether the far end closes the connection soon.
func closed(t *testing.T, c net.Conn) bool {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(3 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err := c.Read(make([]byte, 1))
	return err != nil && !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err)
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

func TestOneClientGetsItsShareOfConnectionsAndNoMore(t *testing.T) {
	inner := loopback(t)
	l := limit(inner, 8, 2)
	accepted := make(chan net.Conn, 8)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	dial(t, inner)
	dial(t, inner)
	first := <-accepted
	<-accepted
	if !closed(t, dial(t, inner)) {
		t.Error("a third connection of the client was kept")
	}
	first.Close()
	dial(t, inner)
	select {
	case c := <-accepted:
		c.Close()
	case <-time.After(3 * time.Second):
		t.Error("a place that was given back is not used")
	}
}

func TestWhereAllPlacesAreTakenTheOldestIdleOneGivesWay(t *testing.T) {
	inner := loopback(t)
	l := limit(inner, 2, 2)
	busyClient := dial(t, inner)
	busy, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	l.state(busy, http.StateActive)
	idleClient := dial(t, inner)
	if _, err := l.Accept(); err != nil {
		t.Fatal(err)
	}
	l.perClient = 3
	dial(t, inner)
	begin := time.Now()
	if _, err := l.Accept(); err != nil {
		t.Fatal(err)
	}
	if waited := time.Since(begin); waited < evictAfter/2 {
		t.Errorf("an idle connection was closed after %s", waited)
	}
	if !closed(t, idleClient) {
		t.Error("the idle connection was kept")
	}
	if _, err := busy.Write([]byte("x")); err != nil {
		t.Errorf("the busy connection was closed: %v", err)
	}
	if n, err := busyClient.Read(make([]byte, 1)); n != 1 {
		t.Errorf("the busy client reads %v", err)
	}
}

// TestManyIdleConnectionsHoldNobodyUp is the finding that idle connections
// could take every place for half a minute.
func TestManyIdleConnectionsHoldNobodyUp(t *testing.T) {
	inner := loopback(t)
	bounded := limit(inner, 16, 16)
	server := &http.Server{ConnState: bounded.state, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "here")
	}), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	bounded.perClient = 1 << 20 // as if each came from an address of its own
	done := make(chan error, 1)
	go func() { done <- server.Serve(bounded) }()
	defer func() { server.Close(); <-done }()
	for range 40 {
		dial(t, inner)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+inner.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("an honest client: %v", err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != "here" {
		t.Errorf("body %q", body)
	}
}

func TestAClientIsAnAddressOrASixtyFour(t *testing.T) {
	tests := []struct{ address, want string }{
		{"192.0.2.7:1", "192.0.2.7/32"},
		{"[::ffff:192.0.2.7]:1", "192.0.2.7/32"},
		{"[2001:db8:1:2:3:4:5:6]:1", "2001:db8:1:2::/64"},
		{"[fe80::1%eth0]:1", "fe80::/64"},
		{"pipe", "invalid Prefix"},
	}
	for _, tt := range tests {
		if got := networkOf(tt.address).String(); got != tt.want {
			t.Errorf("%s counts as %s, want %s", tt.address, got, tt.want)
		}
	}
}
