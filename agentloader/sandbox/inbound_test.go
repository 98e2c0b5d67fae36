package sandbox

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestAgentsAreAskedThroughTheirInboundLink(t *testing.T) {
	s := setUp(t)
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "gateway"), os.NewFile(uintptr(fds[1]), "inbound")
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	ours.Close()
	env, err := Env(map[string]string{"PORT": "8000", inboundVariable: "3", portVariable: "1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	box, err := s.runner.Start(t.Context(), Spec{
		Instance: "asked", Image: s.image, Command: []string{"/agent", "serve"}, Env: env, Link: link(t), Inbound: theirs, Port: 8000,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = box.Kill() })
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols, DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	client, err := transport.NewClientConn(t.Context(), "http", "agent:80")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent/", strings.NewReader("hello")) // before the agent has started
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.RoundTrip(req)
	if err != nil {
		t.Fatalf("%v; last lines %q", err, box.lines.Lines())
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || string(b) != "127.0.0.1:8000 heard hello" {
		t.Errorf("%d %q %v", resp.StatusCode, b, err)
	}
	if exit := wait(t, box); exit.Code != 0 {
		t.Errorf("exit code %d; last lines %q", exit.Code, exit.LastLines)
	}
	s.nothingLeft(t)
}
