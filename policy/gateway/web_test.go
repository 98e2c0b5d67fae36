package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// webSite is what the world has at every web host: it tells what it got.
type webSite struct {
	seen []string
	body func(r *http.Request) string
}

func (s *webSite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	s.seen = append(s.seen, fmt.Sprintf("%s %s %s auth=%q cookie=%q te=%v body=%q", r.Method, r.Host, r.URL, r.Header.Get("Authorization"),
		r.Header.Get("Cookie"), r.TransferEncoding, b))
	w.Header().Set("X-Site", "yes")
	w.Header().Set("Strict-Transport-Security", "max-age=1")
	text := "hello"
	if s.body != nil {
		text = s.body(r)
	}
	_, _ = io.WriteString(w, text)
}

const webSecret = "s3cr3t-token-of-the-gateway"

// withWeb adds the web to a world, and a secret for some of it.
func withWeb(site *webSite) func(*world) {
	return func(w *world) {
		server := httptest.NewTLSServer(site)
		plain := httptest.NewServer(site)
		w.t.Cleanup(server.Close)
		w.t.Cleanup(plain.Close)
		w.cfg.Roots.AddCert(server.Certificate())
		for _, host := range []string{"api.example.com:443", "x.data.example.com:443", "tunnel.example.com:443", "public.example.net:443"} {
			w.cfg.Dial[host] = server.Listener.Addr().String()
		}
		w.cfg.Dial["plain.example.com:80"] = plain.Listener.Addr().String()
		w.cfg.Secret = func(name string) ([]byte, error) {
			if name != "token" {
				return nil, errors.New("no such secret")
			}
			return []byte(webSecret), nil
		}
	}
}

// shim plays the shim's proxy: CONNECT becomes a stream on the link.
func (w *world) shim() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go w.tunnel(c)
		}
	}()
	return "http://" + l.Addr().String()
}

func (w *world) tunnel(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	r, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	out := &http.Request{Method: r.Method, URL: &url.URL{Scheme: "http", Host: "127.0.0.1:3128", Path: r.URL.Path, RawQuery: r.URL.RawQuery}, Host: r.Host, Header: r.Header, Body: r.Body, ContentLength: r.ContentLength}
	if r.Method == http.MethodConnect {
		out.Body, out.ContentLength = io.NopCloser(in), -1
	}
	resp, err := w.client.Transport.RoundTrip(out)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	if r.Method != http.MethodConnect || resp.StatusCode != http.StatusOK {
		_ = resp.Write(c)
		return
	}
	_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
	_, _ = io.Copy(c, resp.Body)
	_ = c.Close() // what is read of it for the stream ends as well
}

// browser is an ordinary client that trusts the sandbox's authority and uses
// the proxy of its environment.
func (w *world) browser() *http.Client {
	w.t.Helper()
	pem := w.do("GET", "/ca.pem", "").body
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(pem)) {
		w.t.Fatalf("authority: %s", pem)
	}
	proxy, err := url.Parse(w.shim())
	if err != nil {
		w.t.Fatal(err)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: roots}}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

func get(t *testing.T, c *http.Client, url string) (int, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestOrdinaryClientsReachWhatThePolicyNames(t *testing.T) {
	site := &webSite{}
	w := newWorld(t, withWeb(site))
	c := w.browser()
	for _, url := range []string{"https://api.example.com/v1/items?q=1", "https://api.example.com/v1/a", "http://plain.example.com/x"} {
		if status, body := get(t, c, url); status != 200 || body != "hello" {
			t.Errorf("%s: %d %s", url, status, body)
		}
	}
	w.wantLog("intent permit get", "outcome ok", "intent permit get", "outcome ok", "intent permit plainly", "outcome ok")
	if len(site.seen) != 3 || !strings.Contains(site.seen[0], "GET api.example.com /v1/items?q=1") || !strings.Contains(site.seen[0], "Bearer "+webSecret) {
		t.Errorf("site saw %q", site.seen)
	}
	if strings.Contains(site.seen[2], webSecret) {
		t.Error("a secret went to a site that it is not for")
	}
	for _, e := range w.log.entries {
		if strings.Contains(string(e.Input)+string(e.Result), webSecret) {
			t.Error("the secret is in the log")
		}
	}
	if in := string(w.log.entries[0].Input); !strings.Contains(in, `"path":"/v1/items"`) || !strings.Contains(in, `"query":"q=1"`) {
		t.Errorf("decided %s", in)
	}
}

func TestWebThatIsNotNamedIsDeniedInWords(t *testing.T) {
	site := &webSite{}
	w := newWorld(t, withWeb(site))
	c := w.browser()
	post := func(url string) (int, string) {
		req, err := http.NewRequest(http.MethodDelete, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	tests := []struct{ name, url, want string }{
		{"another path", "https://api.example.com/admin", "under /v1"},
		{"path tricks", "https://api.example.com/v1/%2e%2e/admin", "two ways"},
		{"two dots", "https://api.example.com/v1/../v1/x", "two ways"},
		{"escaped slash", "https://api.example.com/v1%2f..%2fadmin", "two ways"},
		{"empty part", "https://api.example.com/v1//admin", "empty part"},
		{"exfiltration by query", "https://api.example.com/v1/x?q=TOP-SECRET", "argument"},
		{"plain where TLS is wanted", "http://api.example.com:443/v1/x", "does not let this agent ask"},
		{"metadata service", "http://169.254.169.254/latest/meta-data/", "does not let this agent ask"},
		{"metadata as one number", "http://2852039166/", "not a plain host"},
		{"metadata in hex", "http://0xa9.0xfe.0xa9.0xfe/", "not a plain host"},
		{"loopback over IPv4 in IPv6", "http://[::ffff:10.0.0.1]:8443/", "not a plain host"},
		{"a suffix that only looks so", "http://evil-data.example.com/", "does not let this agent ask"},
	}
	for _, tc := range tests {
		if status, body := get(t, c, tc.url); status != 403 || !strings.Contains(body, tc.want) {
			t.Errorf("%s: %d %s, want %q", tc.name, status, body, tc.want)
		}
	}
	if status, body := post("https://api.example.com/v1/x"); status != 403 || !strings.Contains(body, "GET") {
		t.Errorf("method: %d %s", status, body)
	}
	for _, url := range []string{"https://evil.example.org/", "https://169.254.169.254/", "https://example.com/"} {
		if status, body := get(t, c, url); status != 0 || !strings.Contains(body, "Forbidden") {
			t.Errorf("%s: %d %s", url, status, body)
		}
	}
	if len(site.seen) != 0 {
		t.Errorf("site saw %q", site.seen)
	}
}

func TestNamesThatPointInwardsAreNotDialled(t *testing.T) {
	for _, address := range []string{"169.254.169.254:443", "127.0.0.1:443", "10.0.0.1:443", "[::1]:443", "[fd00:ec2::254]:443"} {
		w := newWorld(t, withWeb(&webSite{}), func(w *world) { w.cfg.Dial["public.example.net:443"] = address })
		if status, body := get(t, w.browser(), "https://public.example.net/"); status != 502 || !strings.Contains(body, "address is not allowed") {
			t.Errorf("%s: %d %s", address, status, body)
		}
		w.wantLog("intent permit away", "outcome error")
	}
}

func TestOpaqueTunnelsPassOnlyWhereTheyAreNamed(t *testing.T) {
	site := &webSite{}
	w := newWorld(t, withWeb(site))
	c := w.browser()
	c.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: w.cfg.Roots, ServerName: "example.com"} // the site's own certificate
	if status, body := get(t, c, "https://tunnel.example.com/any/%2e%2e/path"); status != 200 || body != "hello" {
		t.Errorf("%d %s", status, body)
	}
	c.CloseIdleConnections()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end) && len(w.log.kinds()) < 2; time.Sleep(5 * time.Millisecond) {
	}
	w.wantLog("intent permit through", "outcome ok")
	if status, body := get(t, c, "https://api.example.com/v1/x"); status != 0 {
		t.Errorf("an opened tunnel shows the site's own certificate: %d %s", status, body)
	}
}

func TestTunnelsAreForOneSite(t *testing.T) {
	site := &webSite{}
	w := newWorld(t, withWeb(site))
	b := w.browser()
	tr := b.Transport.(*http.Transport)
	proxied := func(host string) (*tls.Conn, error) {
		u, _ := tr.Proxy(&http.Request{URL: &url.URL{Scheme: "https", Host: "api.example.com"}})
		c, err := net.Dial("tcp", u.Host)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(c, "CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n")
		if _, err := http.ReadResponse(bufio.NewReaderSize(c, 16), nil); err != nil {
			return nil, err
		}
		cfg := tr.TLSClientConfig.Clone()
		cfg.ServerName = host
		secure := tls.Client(c, cfg)
		return secure, secure.HandshakeContext(context.Background())
	}
	if _, err := proxied("x.data.example.com"); err == nil {
		t.Error("a certificate for another name than the tunnel's")
	}
	smuggled := []struct{ name, request, want string }{
		{"another host", "GET /v1/x HTTP/1.1\r\nHost: x.data.example.com\r\n\r\n", "another site"},
		{"absolute form", "GET https://evil.example.org/v1/x HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "another site"},
		{"two hosts", "GET /v1/x HTTP/1.1\r\nHost: api.example.com\r\nHost: evil.example.org\r\n\r\n", "400"},
		{"two lengths", "POST /v1/x HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 4\r\nContent-Length: 9\r\n\r\nabcd", "400"},
		{"bad chunking", "POST /v1/x HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", "501"},
		{"space before the colon", "GET /v1/x HTTP/1.1\r\nHost: api.example.com\r\nX : y\r\n\r\n", "400"},
		{"line end in a value", "GET /v1/x HTTP/1.1\r\nHost: api.example.com\r\nX: a\rEvil: b\r\n\r\n", "400"},
		{"control in the target", "GET /v1/x\x01 HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "400"},
		{"another version", "GET /v1/x HTTP/2.0\r\nHost: api.example.com\r\n\r\n", "505"},
	}
	for _, tc := range smuggled {
		secure, err := proxied("api.example.com")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(secure, tc.request)
		_ = secure.SetReadDeadline(time.Now().Add(5 * time.Second))
		resp, err := http.ReadResponse(bufio.NewReader(secure), nil)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode == 200 || !strings.Contains(resp.Status+string(body), tc.want) {
			t.Errorf("%s: %s %s, want %s", tc.name, resp.Status, body, tc.want)
		}
		_ = secure.Close()
	}
	if len(site.seen) != 0 {
		t.Errorf("site saw %q", site.seen)
	}
	// Both lengths at once, the classic: the body is read once, and sent anew with one length.
	secure, err := proxied("api.example.com")
	if err != nil {
		t.Fatal(err)
	}
	defer secure.Close()
	_, _ = io.WriteString(secure, "POST /v1/x HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/admin HTTP/1.1\r\nHost: evil\r\n\r\n")
	_ = secure.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, _ = http.ReadResponse(bufio.NewReader(secure), nil)
	for _, s := range site.seen {
		if strings.Contains(s, "admin") || strings.Contains(s, "te=[chunked]") {
			t.Errorf("site saw %q", site.seen)
		}
	}
}

func TestAnswerThatRepeatsASecretIsWithheld(t *testing.T) {
	for name, body := range map[string]func(r *http.Request) string{
		"plain":  func(r *http.Request) string { return "you sent " + r.Header.Get("Authorization") },
		"base64": func(*http.Request) string { return "czNjcjN0LXRva2VuLW9mLXRoZS1nYXRld2F5" },
	} {
		w := newWorld(t, withWeb(&webSite{body: body}))
		status, text := get(t, w.browser(), "https://api.example.com/v1/x")
		if status != 502 || strings.Contains(text, "s3cr3t") || !strings.Contains(text, "repeats a secret") {
			t.Errorf("%s: %d %s", name, status, text)
		}
		w.wantLog("intent permit get", "outcome error")
	}
}

func TestMissingSecretSendsNothing(t *testing.T) {
	site := &webSite{}
	w := newWorld(t, withWeb(site), func(w *world) { w.cfg.Secret = nil })
	if status, text := get(t, w.browser(), "https://api.example.com/v1/x"); status != 502 || !strings.Contains(text, "not available") || len(site.seen) > 0 {
		t.Errorf("%d %s, site saw %q", status, text, site.seen)
	}
}
