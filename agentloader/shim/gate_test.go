package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// closed waits until c is closed, and reports whether it was in time.
func closed(c <-chan struct{}, in time.Duration) bool {
	select {
	case <-c:
		return true
	case <-time.After(in):
		return false
	}
}

func TestTheGateOpensOnceAndItsEndEndsTheSandbox(t *testing.T) {
	tests := []struct {
		name              string
		words             string
		opens, isAssigned bool
	}{
		{"opened", "o", true, true},
		{"ahead", "a", true, false},
		{"ahead, then wanted", "ao", true, true},
		{"wanted twice", "oo", true, true},
		{"never opened", "", false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, w := io.Pipe()
			gone := make(chan struct{})
			end := make(chan struct{})
			go func() {
				_, _ = io.WriteString(w, tt.words)
				<-end
				_ = w.Close()
			}()
			if !tt.opens {
				close(end)
			}
			assigned, err := watchGate(r, func() { close(gone) })
			if (err == nil) != tt.opens {
				t.Fatalf("error %v", err)
			}
			if !tt.opens {
				return
			}
			if got := closed(assigned, 200*time.Millisecond); got != tt.isAssigned {
				t.Errorf("assigned: %v", got)
			}
			close(end)
			if !closed(gone, time.Minute) {
				t.Error("it lives on without a platform")
			}
		})
	}
}

func TestAnAgentThatIsStartedAheadFindsTheSandboxsAuthorityLater(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	for _, name := range append([]string{"HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy", "NO_PROXY", "no_proxy"}, trusting...) {
		t.Setenv(name, "")
	}
	link, err := connect(gateway(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "AUTHORITY") })))
	if err != nil {
		t.Fatal(err)
	}
	assigned := make(chan struct{})
	trustOnce(link, assigned)
	path := filepath.Join(os.Getenv("TMPDIR"), ".omega-ca.pem")
	if b, err := os.ReadFile(path); err != nil || strings.Contains(string(b), "AUTHORITY") || os.Getenv("SSL_CERT_FILE") != path {
		t.Fatalf("before: %v, %q", err, os.Getenv("SSL_CERT_FILE"))
	}
	close(assigned)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), "AUTHORITY") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("it never came")
		}
	}
}
