package front

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func testFront() *Front {
	return &Front{
		Evidence: func(_ context.Context, nonce [32]byte) ([]byte, error) {
			if nonce == ([32]byte{}) {
				return nil, errors.New("busy: inner detail")
			}
			return []byte("evidence"), nil
		},
		LogFile: func(_ context.Context, path string) ([]byte, error) {
			if path == "checkpoint" {
				return []byte("note"), nil
			}
			return nil, ErrNotFound
		},
		Ready: func() bool { return false },
		Log:   slog.New(slog.DiscardHandler),
	}
}

func TestRoutesAnswerOnlyWhatTheyAreFor(t *testing.T) {
	nonce := strings.Repeat("ab", 32)
	tests := []struct {
		name, method, path string
		status             int
		body               string
	}{
		{"evidence", "GET", EvidencePath + "?nonce=" + nonce, 200, "evidence"},
		{"evidence without a nonce", "GET", EvidencePath, 400, "nonce"},
		{"a short nonce", "GET", EvidencePath + "?nonce=abab", 400, "nonce"},
		{"a nonce that is not hex", "GET", EvidencePath + "?nonce=" + strings.Repeat("zz", 32), 400, "nonce"},
		{"two nonces", "GET", EvidencePath + "?nonce=" + nonce + "&nonce=" + nonce, 400, "nonce"},
		{"another parameter", "GET", EvidencePath + "?nonce=" + nonce + "&x=1", 400, "nonce"},
		{"an inner error stays inside", "GET", EvidencePath + "?nonce=" + strings.Repeat("00", 32), 503, "try again"},
		{"posting evidence", "POST", EvidencePath + "?nonce=" + nonce, 405, ""},
		{"not ready yet", "GET", ReadyPath, 503, "admitted"},
		{"checkpoint", "GET", "/log/checkpoint", 200, "note"},
		{"a log file that is not there", "GET", "/log/tile/0/000", 404, "no such file"},
		{"anything else", "GET", "/", 404, ""},
		{"escaping the log", "GET", "/log/../../etc/passwd", 307, ""},
	}
	h := testFront().Handler()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, nil))
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.body) {
				t.Errorf("%s %s = %d %q, want %d with %q", tt.method, tt.path, w.Code, w.Body, tt.status, tt.body)
			}
			if strings.Contains(w.Body.String(), "inner detail") {
				t.Error("an inner error reached the client")
			}
		})
	}
}

func TestTheCertificateCarriesTheKeyThatEvidenceNames(t *testing.T) {
	id, err := NewIdentity(time.Unix(1700000000, 0))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, l, id, testFront().Handler(), slog.New(slog.DiscardHandler)) }()

	var seen [32]byte
	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{
		InsecureSkipVerify: true, // the key is compared below, as a verifier does
		VerifyConnection: func(s tls.ConnectionState) error {
			spki, err := x509.MarshalPKIXPublicKey(s.PeerCertificates[0].PublicKey)
			seen = sha256.Sum256(spki)
			return err
		},
	}}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("https://" + l.Addr().String() + "/log/checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != "note" {
		t.Errorf("body = %q", body)
	}
	if resp.ProtoMajor != 1 {
		t.Errorf("%s is spoken, which has no bound on requests", resp.Proto)
	}
	if seen != id.KeyDigest {
		t.Error("the connection's key is not the identity's")
	}
	old := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}
	if c, err := tls.Dial("tcp", l.Addr().String(), old); err == nil {
		c.Close()
		t.Error("TLS 1.2 was accepted")
	}
	cancel()
	if err := <-served; !errors.Is(err, context.Canceled) {
		t.Errorf("Serve ended with %v", err)
	}
}

func TestLargeLogFilesAreServedAFewAtATime(t *testing.T) {
	var now, all atomic.Int32
	proceed := make(chan struct{})
	f := testFront()
	f.LogFile = func(context.Context, string) ([]byte, error) {
		all.Add(1)
		if now.Add(1) > maxLogFiles {
			t.Error("too many files at once")
		}
		defer now.Add(-1)
		<-proceed
		return make([]byte, smallFile+1), nil
	}
	h := f.Handler()
	var wg sync.WaitGroup
	for range 5 * maxLogFiles {
		wg.Go(func() {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", "/log/tile/entries/000", nil))
			if w.Code != 200 || w.Body.Len() != smallFile+1 {
				t.Errorf("answer %d with %d bytes", w.Code, w.Body.Len())
			}
		})
	}
	for now.Load() < maxLogFiles {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond)
	close(proceed)
	wg.Wait()
	if all.Load() != 5*maxLogFiles {
		t.Errorf("%d files read, want %d", all.Load(), 5*maxLogFiles)
	}
}

// blocked is a client that does not read its answer.
type blocked struct {
	*httptest.ResponseRecorder
	stuck *atomic.Int32
	until chan struct{}
}

func (b blocked) Write(p []byte) (int, error) {
	b.stuck.Add(1)
	<-b.until
	return b.ResponseRecorder.Write(p)
}

func TestASlowReaderOfSmallLogFilesKeepsNobodyOut(t *testing.T) {
	h := testFront().Handler()
	until, stuck := make(chan struct{}), new(atomic.Int32)
	var wg sync.WaitGroup
	for range maxLogFiles {
		wg.Go(func() {
			h.ServeHTTP(blocked{httptest.NewRecorder(), stuck, until}, httptest.NewRequest("GET", "/log/checkpoint", nil))
		})
	}
	for stuck.Load() < maxLogFiles {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/log/checkpoint", nil))
	if w.Code != 200 {
		t.Errorf("answer %d", w.Code)
	}
	close(until)
	wg.Wait()
}

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

func TestAMomentWithoutMemoryDoesNotEndTheListener(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &limited{Listener: &flaky{Listener: inner}, slots: make(chan struct{}, 2)}
	for range 2 {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		got, err := l.Accept()
		if err != nil {
			t.Fatalf("Accept ended: %v", err)
		}
		defer got.Close()
	}
	inner.Close()
	l.slots = make(chan struct{}, 1)
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed listener gives %v", err)
	}
}
