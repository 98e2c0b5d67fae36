package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// TestMain lets the test binary play the shim: as the first process it reaps every child, which the
// tests' own process must not.
func TestMain(m *testing.M) {
	if os.Getenv("SHIM_PLAYS") != "" {
		code, err := supervise(strings.Fields(os.Getenv("SHIM_PLAYS")), []*os.File{os.Stdin, os.Stdout})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// gateway serves h at the far end of a link and returns the near end.
func gateway(t *testing.T, h http.Handler) net.Conn {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "link")
		if ends[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: h, Protocols: protocols}
	l := &once{conn: make(chan net.Conn, 1)}
	l.conn <- ends[1]
	go server.Serve(l)
	t.Cleanup(func() { server.Close(); ends[0].Close() })
	return ends[0]
}

type once struct{ conn chan net.Conn }

func (o *once) Accept() (net.Conn, error) {
	c, ok := <-o.conn
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (o *once) Close() error   { close(o.conn); return nil }
func (o *once) Addr() net.Addr { return &net.UnixAddr{} }

// proxied starts the shim's proxy before h.
func proxied(t *testing.T, h http.Handler) (*httptest.Server, net.Conn) {
	t.Helper()
	link := gateway(t, h)
	up, err := connect(link)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler(up))
	t.Cleanup(server.Close)
	return server, link
}

func TestRequestsCrossTheLinkUnchanged(t *testing.T) {
	server, _ := proxied(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Answer", "yes")
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %s %s %q %q", r.Proto, r.Method, r.URL, b, r.Header.Get("Mcp-Method"), r.Header.Get("X-Forwarded-For"))
	}))
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			req, err := http.NewRequest(http.MethodPost, fmt.Sprintf("%s/mcp/files?n=%d", server.URL, i), strings.NewReader("body"))
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Mcp-Method", "tools/call")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			want := fmt.Sprintf(`HTTP/2.0 POST /mcp/files?n=%d body "tools/call" ""`, i)
			if err != nil || string(b) != want || resp.StatusCode != http.StatusTeapot || resp.Header.Get("X-Answer") != "yes" {
				t.Errorf("%d %q, %v, want %q", resp.StatusCode, b, err, want)
			}
		})
	}
	wg.Wait()
}

func TestLargeMessagesCrossTheLinkUnchanged(t *testing.T) {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(b)
	})
	server, _ := proxied(t, echo)
	agent := httptest.NewServer(echo)
	defer agent.Close()
	text := make([]byte, 3*part+17)
	for i := range text {
		text[i] = byte(i * 7 >> 3)
	}
	for what, client := range map[string]*http.Client{server.URL: http.DefaultClient, "http://agent": calling(t, strings.TrimPrefix(agent.URL, "http://"))} {
		for range 3 { // with buffers that have been used
			resp, err := client.Post(what, "", bytes.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			if _ = resp.Body.Close(); err != nil || !bytes.Equal(b, text) {
				t.Errorf("%s: %d bytes come back of %d, %v", what, len(b), len(text), err)
			}
		}
	}
}

func TestLostLinkIsSaidInWords(t *testing.T) {
	server, link := proxied(t, http.NotFoundHandler())
	link.Close()
	resp, err := http.Get(server.URL + "/x")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusBadGateway || !strings.HasPrefix(string(b), "gateway: ") {
		t.Errorf("%d %q", resp.StatusCode, b)
	}
}

func TestExitCodesAreTheCommands(t *testing.T) {
	for command, want := range map[string]int{
		"true":            0,
		"false":           1,
		"no-such-command": failed,
		"/":               failed,
	} {
		p, err := os.StartProcess("/proc/self/exe", []string{"shim"}, &os.ProcAttr{Env: append(os.Environ(), "SHIM_PLAYS="+command)})
		if err != nil {
			t.Fatal(err)
		}
		state, err := p.Wait()
		if err != nil || state.ExitCode() != want {
			t.Errorf("%q: exit code %d, %v, want %d", command, state.ExitCode(), err, want)
		}
	}
}

func TestBadInvocationsAreRefused(t *testing.T) {
	for _, tt := range []struct {
		args []string
		link string
	}{
		{nil, "9"}, {[]string{"--"}, "9"}, {[]string{"agent", "x"}, "9"},
		{[]string{"--", "agent"}, ""}, {[]string{"--", "agent"}, "1"}, {[]string{"--", "agent"}, "999"}, {[]string{"--", "agent"}, "x"},
	} {
		t.Setenv(linkVariable, tt.link)
		if code, err := run(tt.args); code != failed || err == nil {
			t.Errorf("%q with link %q: code %d, %v", tt.args, tt.link, code, err)
		}
	}
}
