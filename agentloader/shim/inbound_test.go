package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// calling returns the gateway's end of an inbound link that the shim serves.
func calling(t *testing.T, agent string) *http.Client {
	t.Helper()
	return asking(t, inbound(agent))
}

// asking is calling, with what answers at the shim's end.
func asking(t *testing.T, h http.Handler) *http.Client {
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
	serveInbound(ends[1], h)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols, DialContext: func(context.Context, string, string) (net.Conn, error) { return ends[0], nil }}
	link, err := transport.NewClientConn(t.Context(), "http", "agent:80")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { link.Close(); ends[0].Close() })
	return &http.Client{Transport: link, Timeout: 20 * time.Second}
}

func post(t *testing.T, c *http.Client) (int, string) {
	t.Helper()
	resp, err := c.Post("http://agent/ask?a=b", "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestRequestsOfTheGatewayReachTheAgentsOwnServer(t *testing.T) {
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %s %s %s %q", r.Proto, r.Method, r.Host, r.URL, b, r.Header.Get("X-Forwarded-For"))
	}))
	defer agent.Close()
	host := strings.TrimPrefix(agent.URL, "http://")
	client := calling(t, host)
	for range 3 {
		status, body := post(t, client)
		if want := "HTTP/1.1 POST " + host + ` /ask?a=b hello ""`; status != http.StatusTeapot || body != want {
			t.Errorf("%d %q, want %q", status, body, want)
		}
	}
}

func TestAnAgentThatJustStartsIsWaitedFor(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := taken.Addr().String()
	taken.Close()
	client := calling(t, address)
	go func() {
		time.Sleep(200 * time.Millisecond)
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { l.Close() })
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "awake") }))
	}()
	if status, body := post(t, client); status != http.StatusOK || body != "awake" {
		t.Errorf("%d %q", status, body)
	}
}

func TestABadInboundLinkIsRefused(t *testing.T) {
	for _, tt := range []struct{ fd, port string }{
		{"x", "8000"}, {"1", "8000"}, {"999", "8000"}, {"9", ""}, {"9", "0"}, {"9", "70000"}, {"9", "-1"}, {"x", "stdio"}, {"999", "stdio"},
	} {
		t.Setenv(inboundVariable, tt.fd)
		t.Setenv(portVariable, tt.port)
		if _, err := takeInbound(); err == nil {
			t.Errorf("descriptor %q and port %q were taken", tt.fd, tt.port)
		}
	}
	t.Setenv(inboundVariable, "")
	if _, err := takeInbound(); err != nil {
		t.Errorf("no inbound link at all: %v", err)
	}
}
