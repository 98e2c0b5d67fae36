package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// enter opens an inbound link to an agent that behaves as serve says at its end.
func enter(t *testing.T, g *Gateway, instance string, serve func(net.Conn)) (ended chan error) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "inbound")
		if ends[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	go serve(ends[1])
	ctx, cancel := context.WithCancel(context.Background())
	ended = make(chan error, 1)
	go func() { ended <- g.ServeInbound(ctx, Agent{Instance: instance, Name: "a"}, ends[0]) }()
	for deadline := time.Now().Add(10 * time.Second); g.doors.of(instance) == nil && len(ended) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no door")
		}
	}
	t.Cleanup(func() { cancel(); ends[1].Close() })
	return ended
}

// agentOf serves HTTP/2 as the shim does.
func agentOf(h http.HandlerFunc) func(net.Conn) {
	return func(conn net.Conn) {
		var protocols http.Protocols
		protocols.SetUnencryptedHTTP2(true)
		srv := &http.Server{Handler: h, Protocols: &protocols, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
		_ = srv.Serve(newOnce(conn))
	}
}

func deliverTo(t *testing.T, g *Gateway, instance string, patience time.Duration) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := http.NewRequest(http.MethodPost, "http://elsewhere/x", strings.NewReader("question"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := g.deliver(ctx, instance, r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return string(b), err
}

func TestAnAgentIsAskedThroughItsOwnLinkAlone(t *testing.T) {
	g := new(Gateway)
	for _, name := range []string{"one", "two"} {
		enter(t, g, name, agentOf(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			_, _ = io.WriteString(w, name+" "+r.Host+" "+r.URL.Path+" "+string(b))
		}))
	}
	for _, name := range []string{"one", "two"} {
		if got, err := deliverTo(t, g, name, 10*time.Second); err != nil || got != name+" agent /x question" {
			t.Errorf("%q %v", got, err)
		}
	}
	if _, err := deliverTo(t, g, "three", time.Second); !errors.Is(err, errNoDoor) {
		t.Errorf("an agent without a door: %v", err)
	}
}

func TestAnAgentStartedAgainHasItsNewDoor(t *testing.T) {
	g := new(Gateway)
	says := func(text string) func(net.Conn) {
		return agentOf(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
	}
	old := enter(t, g, "a", says("first"))
	before := g.doors.of("a")
	enter(t, g, "a", says("second"))
	for g.doors.of("a") == before {
		time.Sleep(time.Millisecond)
	}
	_ = before.conn.Close()
	if err := <-old; err != nil {
		t.Errorf("the old link ended with %v", err)
	}
	if got, err := deliverTo(t, g, "a", 10*time.Second); err != nil || got != "second" {
		t.Errorf("%q %v", got, err)
	}
}

func TestAHostileAgentCostsWhoAsksItABoundedTimeAndNobodyElseAnything(t *testing.T) {
	const patience = 700 * time.Millisecond
	endless := strings.Repeat("x", 64<<10)
	for name, serve := range map[string]func(net.Conn){
		"never answers":     agentOf(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }),
		"reads nothing":     func(net.Conn) {},
		"is no HTTP":        func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nhello") },
		"hangs up":          func(c net.Conn) { _ = c.Close() },
		"never ends":        agentOf(func(w http.ResponseWriter, r *http.Request) { drip(w, r, "x") }),
		"has a huge header": agentOf(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", endless) }),
		"wants no streams": func(c net.Conn) {
			_, _ = c.Write([]byte("\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00"))
		},
		"says only early on": agentOf(func(w http.ResponseWriter, r *http.Request) { early(w, r) }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := new(Gateway)
			enter(t, g, "hostile", serve)
			enter(t, g, "good", agentOf(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") }))
			asked := make(chan error, 3*maxDeliveries)
			begun := time.Now()
			for range cap(asked) { // more than have a place
				go func() {
					_, err := deliverTo(t, g, "hostile", patience)
					asked <- err
				}()
			}
			if got, err := deliverTo(t, g, "good", 10*time.Second); err != nil || got != "fine" {
				t.Errorf("beside it: %q %v", got, err)
			}
			for range cap(asked) {
				if err := <-asked; err == nil {
					t.Error("an answer came of it")
				}
			}
			if took := time.Since(begun); took > 10*patience {
				t.Errorf("it took %v", took)
			}
			if d := g.doors.of("hostile"); d != nil && len(d.slots) != 0 {
				t.Errorf("%d places are still taken", len(d.slots))
			}
		})
	}
}

// drip answers without end.
func drip(w http.ResponseWriter, r *http.Request, s string) {
	for r.Context().Err() == nil {
		_, _ = io.WriteString(w, s)
		_ = http.NewResponseController(w).Flush()
		time.Sleep(10 * time.Millisecond)
	}
}

// early sends informational answers without end (RFC 9110 section 15.2).
func early(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		w.Header().Set("Link", "</x>")
		w.WriteHeader(http.StatusEarlyHints)
		time.Sleep(10 * time.Millisecond)
	}
}
