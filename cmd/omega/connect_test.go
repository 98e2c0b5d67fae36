package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"omega/attest"
)

// house is a platform that can be started anew, with another key, at the same
// address. It serves evidence, /hello, and /stream, which never ends.
type house struct {
	*platform
	url  string
	cert atomic.Pointer[tls.Certificate]
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{platform: newPlatform(t)}
	h.restart(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequestClientCert, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return h.cert.Load(), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc(evidencePath, h.serve)
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Strict-Transport-Security", "max-age=1")
		_, _ = io.WriteString(w, "hello "+r.Host+r.Header.Get("Origin"))
	})
	mux.HandleFunc("/whoami", func(w http.ResponseWriter, r *http.Request) {
		for _, c := range r.TLS.PeerCertificates {
			_, _ = w.Write(c.RawSubjectPublicKeyInfo)
		}
	})
	mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	server := &http.Server{Handler: mux, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	h.url = "https://" + l.Addr().String()
	return h
}

// restart gives the platform a fresh TLS key, which its evidence names.
func (h *house) restart(t *testing.T) {
	t.Helper()
	c, digest := newCertificate(t)
	h.tlsKey = digest
	h.cert.Store(c)
}

func newCertificate(t *testing.T) (*tls.Certificate, [32]byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
}

func (h *house) args(more ...string) []string {
	return append([]string{"connect", h.url, "--allow-emulated", h.root, "--manifest", h.manifest, "--manifest-unsigned"}, more...)
}

// words is a Writer that several goroutines may use.
type words struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// startConnect runs `omega connect` and returns the first line of its output,
// and what ends it and gives its exit code.
func startConnect(t *testing.T, args []string) (line string, said *words, stop func() int) {
	t.Helper()
	out, in := io.Pipe()
	said = new(words)
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() {
		e := &env{Stdin: strings.NewReader(""), Stdout: in, Stderr: said}
		code <- e.main(ctx, args)
		in.Close()
	}()
	reader := bufio.NewReader(out)
	line, err := reader.ReadString('\n')
	if err != nil {
		t.Fatalf("no output: %v, %s", err, said)
	}
	go func() { _, _ = io.Copy(io.Discard, reader) }()
	stop = sync.OnceValue(func() int { cancel(); return <-code })
	t.Cleanup(func() { stop() })
	return strings.TrimSpace(line), said, stop
}

func getLocal(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func TestAnOrdinaryClientReachesAVerifiedPlatform(t *testing.T) {
	h := newHouse(t)
	local, said, stop := startConnect(t, h.args())
	resp, body := getLocal(t, local+"/hello")
	if want := "hello " + strings.TrimPrefix(h.url, "https://"); resp.StatusCode != http.StatusOK || body != want {
		t.Errorf("%s %q, want %q", resp.Status, body, want)
	}
	if v := resp.Header.Get("Omega-Verdict"); v != attest.VerdictEmulated {
		t.Errorf("Omega-Verdict %q", v)
	}
	if resp.Header.Get("Strict-Transport-Security") != "" {
		t.Error("a header about the platform's name reaches the client")
	}
	if curl, err := exec.LookPath("curl"); err == nil {
		out, err := exec.CommandContext(t.Context(), curl, "-sS", "--max-time", "10", "--noproxy", "*", local+"/hello").CombinedOutput()
		if err != nil || string(out) != body {
			t.Errorf("curl: %q, %v", out, err)
		}
	}
	if code := stop(); code != exitOK {
		t.Errorf("exit %d", code)
	}
	if !strings.Contains(said.String(), "no hardware") {
		t.Errorf("words %q do not say what emulated means", said)
	}
	if c, err := net.Dial("tcp", strings.TrimPrefix(local, "http://")); err == nil {
		c.Close()
		t.Error("it listens after its end")
	}
}

func TestRequestsGoAsTheCallerWhoseKeyIsGiven(t *testing.T) {
	h := newHouse(t)
	local, _, _ := startConnect(t, h.args())
	if _, body := getLocal(t, local+"/whoami"); body != "" {
		t.Error("without a key the platform is told one")
	}
	path, key := writeCallerKey(t, elliptic.P256())
	want, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	local, _, _ = startConnect(t, h.args("--caller-key", path))
	if _, body := getLocal(t, local+"/whoami"); body != string(want) {
		t.Error("the platform is not told the caller's key")
	}
}

func TestJSONSaysWhatWasVerifiedAndWhereItListens(t *testing.T) {
	h := newHouse(t)
	line, _, _ := startConnect(t, h.args("--json"))
	var ev connectEvent
	if err := json.Unmarshal([]byte(line), &ev); err != nil || ev.Event != attest.VerdictEmulated || ev.TLSKey != attest.Bytes32(h.tlsKey).String() {
		t.Errorf("%s: %v", line, err)
	}
}

func TestAPlatformThatDoesNotVerifyIsNotConnectedTo(t *testing.T) {
	tests := []struct {
		name   string
		change func(h *house)
		args   []string
		code   int
		words  string
	}{
		{"another launch digest", func(h *house) { h.launch.Digest[0]++ }, nil, exitMismatch, "measurement"},
		{"somebody between", func(h *house) { h.tlsKey[0]++ }, nil, exitMismatch, "tls_key"},
		{"garbage", func(h *house) { h.mangle = func([]byte) []byte { return []byte("garbage") } }, nil, exitSignature, "evidence"},
		{"an address of others", func(*house) {}, []string{"--listen", "0.0.0.0:0"}, exitUsage, "--allow-remote"},
		{"a listener that is none", func(*house) {}, []string{"--listen", "here"}, exitUsage, "--listen"},
		{"verifying too often", func(*house) {}, []string{"--every", "1s"}, exitUsage, "--every"},
		{"verifying too seldom", func(*house) {}, []string{"--every", "48h"}, exitUsage, "--every"},
		{"a nonce", func(*house) {}, []string{"--nonce", "00"}, exitUsage, "--nonce"},
		{"two platforms", func(*house) {}, []string{"https://b"}, exitUsage, "want"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHouse(t)
			tt.change(h)
			code, out, said := omega(t, h.args(tt.args...)...)
			if code != tt.code || out != "" || !strings.Contains(said, tt.words) {
				t.Errorf("exit %d, want %d; stdout %q, stderr %q", code, tt.code, out, said)
			}
		})
	}
	for _, u := range []string{"http://a", "https://", "https://u@h", "https://h/path", "https://h?q=1", "file.json"} {
		if code, _, said := omega(t, "connect", u); code != exitUsage || !strings.Contains(said, "want https") {
			t.Errorf("%s: exit %d, %q", u, code, said)
		}
	}
}

// room is a channel to a house, with a clock that a test moves.
type room struct {
	*channel
	*house
	local  *httptest.Server
	mu     sync.Mutex
	at     time.Time
	count  int
	refuse error
	events []connectEvent
}

func newRoom(t *testing.T) *room {
	t.Helper()
	r := &room{house: newHouse(t), at: time.Unix(1700000000, 0)}
	target, err := url.Parse(r.url)
	if err != nil {
		t.Fatal(err)
	}
	e := &env{Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard}
	r.channel = newChannel(target, time.Minute, func(ctx context.Context) (*verification, error) {
		r.mu.Lock()
		r.count++
		refuse := r.refuse
		r.mu.Unlock()
		if refuse != nil {
			return nil, refuse
		}
		return verifyPlatform(ctx, e, verifyOptions{Source: r.url, Manifest: r.manifest, Unsigned: true, Emulated: r.root})
	})
	r.now = func() time.Time { r.mu.Lock(); defer r.mu.Unlock(); return r.at }
	r.report = func(ev connectEvent) { r.mu.Lock(); defer r.mu.Unlock(); r.events = append(r.events, ev) }
	r.local = httptest.NewServer(r.handler())
	t.Cleanup(func() { r.close(); r.local.Close() })
	return r
}

func (r *room) later(d time.Duration) { r.mu.Lock(); defer r.mu.Unlock(); r.at = r.at.Add(d) }

func (r *room) verifications() int { r.mu.Lock(); defer r.mu.Unlock(); return r.count }

func (r *room) refuseWith(err error) { r.mu.Lock(); defer r.mu.Unlock(); r.refuse = err }

func TestAVerificationHoldsForItsTimeAndNoLonger(t *testing.T) {
	r := newRoom(t)
	for i, step := range []struct {
		wait time.Duration
		want int
	}{{0, 1}, {59 * time.Second, 1}, {2 * time.Second, 2}, {30 * time.Second, 2}} {
		r.later(step.wait)
		if resp, body := getLocal(t, r.local.URL+"/hello"); resp.StatusCode != http.StatusOK {
			t.Fatalf("step %d: %s %q", i, resp.Status, body)
		}
		if got := r.verifications(); got != step.want {
			t.Errorf("step %d: %d verifications, want %d", i, got, step.want)
		}
	}
}

func TestNothingPassesWhileThePlatformDoesNotVerify(t *testing.T) {
	r := newRoom(t)
	stream, err := http.Get(r.local.URL + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	reader := bufio.NewReader(stream.Body)
	if line, err := reader.ReadString('\n'); line != "first\n" {
		t.Fatalf("stream begins with %q, %v", line, err)
	}
	r.refuseWith(errors.New("the release has expired"))
	r.later(2 * time.Minute)
	resp, body := getLocal(t, r.local.URL+"/hello")
	if resp.StatusCode != http.StatusBadGateway || !strings.Contains(body, "the release has expired") {
		t.Errorf("%s %q, want 502 and the reason", resp.Status, body)
	}
	ended := make(chan error, 1)
	go func() { _, err := reader.ReadString('\n'); ended <- err }()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("a stream goes on from a platform that does not verify any more")
	}
	if getLocal(t, r.local.URL+"/hello"); r.verifications() != 2 {
		t.Errorf("%d verifications: each request asks a platform that was just refused", r.verifications())
	}
	r.refuseWith(nil)
	r.later(retryPause)
	if resp, _ := getLocal(t, r.local.URL+"/hello"); resp.StatusCode != http.StatusOK {
		t.Errorf("a platform that verifies again is answered %s", resp.Status)
	}
}

func TestAPlatformThatWasStartedAnewIsVerifiedBeforeAnythingPasses(t *testing.T) {
	r := newRoom(t)
	if resp, body := getLocal(t, r.local.URL+"/hello"); resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %q", resp.Status, body)
	}
	r.restart(t)
	r.later(retryPause)
	r.proxy.CloseIdleConnections()
	if resp, body := getLocal(t, r.local.URL+"/hello"); resp.StatusCode != http.StatusOK || r.verifications() != 2 {
		t.Errorf("%s %q after %d verifications", resp.Status, body, r.verifications())
	}
	impostor, _ := newCertificate(t) // the evidence still names the other key
	r.cert.Store(impostor)
	r.later(retryPause)
	r.proxy.CloseIdleConnections()
	resp, body := getLocal(t, r.local.URL+"/hello")
	if resp.StatusCode != http.StatusBadGateway || !strings.Contains(body, "tls_key") {
		t.Errorf("an impostor: %s %q", resp.Status, body)
	}
	last := r.events[len(r.events)-1]
	if last.Event != attest.VerdictRefused || !strings.Contains(last.Reason, "tls_key") {
		t.Errorf("event %+v", last)
	}
}

func TestOnlyThisMachineAndItsPagesComeIn(t *testing.T) {
	tests := []struct {
		name, host string
		header     [2]string
		url        string
		remote     bool
		want       int
	}{
		{"curl", "127.0.0.1:8000", [2]string{}, "/x", false, 200},
		{"localhost", "localhost:8000", [2]string{}, "/x", false, 200},
		{"IPv6", "[::1]:8000", [2]string{}, "/x", false, 200},
		{"a page from here", "127.0.0.1:8000", [2]string{"Origin", "http://127.0.0.1:8000"}, "/x", false, 200},
		{"an address that was typed", "127.0.0.1:8000", [2]string{"Sec-Fetch-Site", "none"}, "/x", false, 200},
		{"a rebound name", "evil.example:8000", [2]string{}, "/x", false, 403},
		{"a name that looks like a number", "127.0.0.1.evil.example:8000", [2]string{}, "/x", false, 403},
		{"another port", "127.0.0.1:9000", [2]string{}, "/x", false, 403},
		{"no port", "127.0.0.1", [2]string{}, "/x", false, 403},
		{"another address", "192.0.2.1:8000", [2]string{}, "/x", false, 403},
		{"another address, allowed", "192.0.2.1:8000", [2]string{}, "/x", true, 200},
		{"a name, though addresses are allowed", "evil.example:8000", [2]string{}, "/x", true, 403},
		{"a page from elsewhere", "127.0.0.1:8000", [2]string{"Origin", "https://evil.example"}, "/x", false, 403},
		{"a page from another port", "127.0.0.1:8000", [2]string{"Origin", "http://127.0.0.1:9000"}, "/x", false, 403},
		{"a page of no origin", "127.0.0.1:8000", [2]string{"Origin", "null"}, "/x", false, 403},
		{"an image in another page", "127.0.0.1:8000", [2]string{"Sec-Fetch-Site", "cross-site"}, "/x", false, 403},
		{"a page of another port", "127.0.0.1:8000", [2]string{"Sec-Fetch-Site", "same-site"}, "/x", false, 403},
		{"a forward proxy", "127.0.0.1:8000", [2]string{}, "http://127.0.0.1:8000/x", false, 403},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := &doorkeeper{local: "127.0.0.1:8000", remote: tt.remote, next: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
			r := httptest.NewRequest("GET", "/x", nil)
			u, err := url.Parse(tt.url)
			if err != nil {
				t.Fatal(err)
			}
			r.URL, r.Host = u, tt.host
			if tt.header[0] != "" {
				r.Header.Set(tt.header[0], tt.header[1])
			}
			w := httptest.NewRecorder()
			d.ServeHTTP(w, r)
			if w.Code != tt.want {
				t.Errorf("%d %s, want %d", w.Code, w.Body, tt.want)
			}
		})
	}
	r := httptest.NewRequest("CONNECT", "/", nil)
	r.Host = "127.0.0.1:8000"
	if err := (&doorkeeper{local: "127.0.0.1:8000"}).check(r); err == nil {
		t.Error("CONNECT came in")
	}
}
