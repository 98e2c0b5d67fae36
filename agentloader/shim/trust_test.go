package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheAgentTrustsTheSandboxsAuthorityAndFindsItsProxy(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("CURL_CA_BUNDLE", "/the/bundles/own")
	for _, name := range append([]string{"HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy", "NO_PROXY", "no_proxy"}, trusting...) {
		if name != "CURL_CA_BUNDLE" {
			t.Setenv(name, "")
		}
	}
	link, err := connect(gateway(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ca.pem" {
			_, _ = io.WriteString(w, "AUTHORITY")
		}
	})))
	if err != nil {
		t.Fatal(err)
	}
	if err := trust(link); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(os.Getenv("TMPDIR"), ".omega-ca.pem")
	if b, err := os.ReadFile(path); err != nil || !strings.HasSuffix(string(b), "AUTHORITY") {
		t.Errorf("%q %v", b, err)
	}
	for name, want := range map[string]string{
		"SSL_CERT_FILE": path, "NODE_EXTRA_CA_CERTS": path, "CURL_CA_BUNDLE": "/the/bundles/own",
		"HTTPS_PROXY": "http://127.0.0.1:3128", "NO_PROXY": "127.0.0.1,localhost,::1",
	} {
		if got := os.Getenv(name); got != want {
			t.Errorf("%s=%q, want %q", name, got, want)
		}
	}
}

func TestTunnelsAreStreamsOfTheLink(t *testing.T) {
	server, _ := proxied(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			fmt.Fprintf(w, "%s %s %s", r.Method, r.Host, r.URL)
			return
		}
		if r.Host != "named.example:443" {
			http.Error(w, "denied by policy", http.StatusForbidden)
			return
		}
		_ = http.NewResponseController(w).Flush()
		line, _ := bufio.NewReader(r.Body).ReadString('\n')
		fmt.Fprintf(w, "echo %s", line)
	}))
	connectTo := func(host string) (net.Conn, *bufio.Reader, *http.Response) {
		c, err := net.Dial("tcp", strings.TrimPrefix(server.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", host, host)
		in := bufio.NewReader(c)
		resp, err := http.ReadResponse(in, &http.Request{Method: http.MethodConnect})
		if err != nil {
			t.Fatal(err)
		}
		return c, in, resp
	}
	c, in, resp := connectTo("named.example:443")
	fmt.Fprint(c, "hello\n")
	if line, err := in.ReadString('\n'); err != nil || resp.StatusCode != 200 || line != "echo hello\n" {
		t.Errorf("%d %q %v", resp.StatusCode, line, err)
	}
	if _, in, resp := connectTo("other.example:443"); resp.StatusCode != 403 {
		t.Errorf("%d", resp.StatusCode)
	} else if b, _ := io.ReadAll(in); !strings.Contains(string(b), "denied by policy") {
		t.Errorf("%q", b)
	}
	proxy := &http.Client{Transport: &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { return url.Parse(server.URL) }}}
	r, err := proxy.Get("http://plain.example/x?q=1")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if b, _ := io.ReadAll(r.Body); string(b) != "GET plain.example /x?q=1" {
		t.Errorf("%q", b)
	}
}
