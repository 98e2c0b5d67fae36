package front

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"omega/attest"
)

func testFront() *Front {
	return &Front{
		Evidence: func(_ context.Context, r attest.Request) ([]byte, error) {
			if r.Nonce.IsZero() {
				return nil, errors.New("busy: inner detail")
			}
			if r.Open != nil && r.Open.Instance != "a" {
				return nil, ErrNotFound
			}
			return []byte("evidence"), nil
		},
		LogFile: func(_ context.Context, path string) ([]byte, error) {
			if path == "checkpoint" {
				return []byte("note"), nil
			}
			return nil, ErrNotFound
		},
		Ready:   func() bool { return false },
		Callers: everybody(),
		Log:     slog.New(slog.DiscardHandler),
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
		{"posting no request", "POST", EvidencePath, 400, "evidence-request"},
		{"an opening", "GET", OpeningPath + "?instance=a&component=model:m&nonce=" + nonce, 200, "evidence"},
		{"an opening of nothing", "GET", OpeningPath + "?instance=a&component=model&nonce=" + nonce, 400, "component"},
		{"an opening without a nonce", "GET", OpeningPath + "?instance=a&component=model:m", 400, "nonce"},
		{"an opening of what is not there", "GET", OpeningPath + "?instance=b&component=model:m&nonce=" + nonce, 404, "no such"},
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
