package registry

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"omega/agentloader/bundle"
)

var content = []byte("the content")

func descriptor() bundle.OCIDescriptor {
	return bundle.OCIDescriptor{Digest: bundle.DigestOf(content), Size: int64(len(content))}
}

// public plays a registry on the Internet: TLS, and a token even for what everyone may read.
func public(t *testing.T, blob http.HandlerFunc) (*httptest.Server, Config) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token":
			fmt.Fprint(w, `{"token":"anonymous"}`)
		case r.Header.Get("Authorization") != "Bearer anonymous":
			w.Header().Set("WWW-Authenticate", `Bearer realm="https://`+r.Host+`/token",service="test"`)
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/v2/":
		case strings.HasPrefix(r.URL.Path, "/v2/agents/notes/blobs/"):
			blob(w, r)
		default:
			http.NotFound(w, r)
		}
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server, Config{Roots: roots, Tries: 2, Backoff: time.Millisecond, Idle: time.Second}
}

func pull(t *testing.T, cfg Config, repository string) ([]byte, error) {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Open(t.Context(), repository)
	if err != nil {
		return nil, err
	}
	return r.Blob(t.Context(), descriptor(), 100)
}

func TestPublicRegistriesAreReadWithTheirTokens(t *testing.T) {
	server, cfg := public(t, func(w http.ResponseWriter, _ *http.Request) { w.Write(content) })
	host := strings.TrimPrefix(server.URL, "https://")
	b, err := pull(t, cfg, host+"/agents/notes")
	if err != nil || string(b) != string(content) {
		t.Errorf("%q, %v", b, err)
	}
	cfg.Mirror = server.URL
	if b, err = pull(t, cfg, "registry.example/agents/notes"); err != nil || string(b) != string(content) {
		t.Errorf("as a mirror: %q, %v", b, err)
	}
	cfg.Mirror = ""
	cfg.Dial = map[string]string{"example.com:443": host} // the test certificate is for example.com
	if b, err = pull(t, cfg, "example.com/agents/notes"); err != nil || string(b) != string(content) {
		t.Errorf("by the dial map: %q, %v", b, err)
	}
	cfg.Roots = x509.NewCertPool()
	if _, err = pull(t, cfg, host+"/agents/notes"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("unknown certificate: error %v, want ErrUnavailable", err)
	}
	if _, err = pull(t, cfg, "agents/notes"); err == nil {
		t.Error("no registry named, no mirror: pulled")
	}
}

func TestRedirectsDoNotReachPrivateAddresses(t *testing.T) {
	secret := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(content) }))
	defer secret.Close()
	server, cfg := public(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, secret.URL+"/x", http.StatusFound) })
	cfg.Roots.AddCert(secret.Certificate())
	_, err := pull(t, cfg, strings.TrimPrefix(server.URL, "https://")+"/agents/notes")
	if err == nil || !strings.Contains(err.Error(), "private address") {
		t.Errorf("error %v, want one about a private address", err)
	}
	server, cfg = public(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+r.Host+"/x", http.StatusFound)
	})
	if _, err = pull(t, cfg, strings.TrimPrefix(server.URL, "https://")+"/agents/notes"); err == nil || !strings.Contains(err.Error(), "redirect to http") {
		t.Errorf("a redirect from HTTPS to HTTP: error %v", err)
	}
}

func TestBrokenTransfersAreTriedAgainFromTheStart(t *testing.T) {
	tries := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if tries++; tries < 3 {
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			w.Write(content[:tries])
			panic(http.ErrAbortHandler)
		}
		w.Write(content)
	}))
	defer server.Close()
	c, err := New(Config{Mirror: server.URL, Tries: 3, Backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Open(t.Context(), "a/b")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(t.TempDir() + "/blob")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := r.BlobTo(t.Context(), descriptor(), 100, f); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(f); err != nil || string(b) != string(content) {
		t.Errorf("%q, %v", b, err)
	}
	if tries != 3 {
		t.Errorf("%d tries", tries)
	}
}

func TestFullDiskIsNotTheRegistrysFault(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full")
	}
	tries := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { tries++; w.Write(content) }))
	defer server.Close()
	c, err := New(Config{Mirror: server.URL, Tries: 3, Backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Open(t.Context(), "a/b")
	if err != nil {
		t.Fatal(err)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	err = r.pull(t.Context(), "blobs/x", descriptor(), 100, func() (io.Writer, error) { return full, nil })
	if err == nil || errors.Is(err, ErrUnavailable) || tries != 1 {
		t.Errorf("error %v after %d tries", err, tries)
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }))
	defer server.Close()
	c, err := New(Config{Mirror: server.URL, Tries: 100, Backoff: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r, err := c.Open(ctx, "a/b")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Blob(ctx, descriptor(), 100); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the context's", err)
	}
}

func TestSteadyTransfersMayBeSlow(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		for _, c := range content {
			w.Write([]byte{c})
			w.(http.Flusher).Flush()
			time.Sleep(150 * time.Millisecond)
		}
	}))
	defer server.Close()
	b, err := pull(t, Config{Mirror: server.URL, Idle: time.Second, Tries: 1}, "a/b")
	if err != nil || string(b) != string(content) {
		t.Errorf("%q, %v", b, err)
	}
	c, err := New(Config{Mirror: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Open(t.Context(), "a/b")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Blob(t.Context(), descriptor(), 5); !errors.Is(err, ErrLength) || asked != 1 {
		t.Errorf("what is too large is not asked for: error %v, %d requests", err, asked)
	}
}
