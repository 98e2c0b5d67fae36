package gateway_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"omega/policy/provenance"
)

// streaming makes the world's site answer as serve does.
func streaming(t *testing.T, serve http.HandlerFunc) *world {
	t.Helper()
	return newWorld(t, withWeb(&webSite{}), func(w *world) {
		server := httptest.NewTLSServer(serve)
		t.Cleanup(server.Close)
		w.cfg.Roots.AddCert(server.Certificate())
		w.cfg.Dial["api.example.com:443"] = server.Listener.Addr().String()
	})
}

func (w *world) outcome() (status, sum string, size int) {
	w.t.Helper()
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	e := w.log.entries[len(w.log.entries)-1]
	var r struct {
		Status, SHA256 string
		Bytes          int
	}
	if err := json.Unmarshal(e.Result, &r); err != nil || e.Kind != provenance.KindOutcome {
		w.t.Fatalf("last entry %s: %v", e.Kind, err)
	}
	return r.Status, r.SHA256, r.Bytes
}

func TestLongAnswersOfTheWebAreStreamed(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // 16 MiB, more than was held once
	w := streaming(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/sized" {
			w.Header().Set("Content-Length", "16777216")
		}
		_, _ = w.Write(body)
	})
	c := w.browser()
	for _, path := range []string{"sized", "open"} {
		status, text := get(t, c, "https://api.example.com/v1/"+path)
		if status != 200 || text != string(body) {
			t.Errorf("%s: %d with %d bytes", path, status, len(text))
		}
		if status, sum, size := w.outcome(); status != "ok" || size != len(body) || len(sum) != 64 {
			t.Errorf("%s: outcome %s %s %d", path, status, sum, size)
		}
	}
}

func TestEventsOfTheWebArriveWhenTheyAreSent(t *testing.T) {
	heard := make(chan struct{})
	w := streaming(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: one\n\n")
		w.(http.Flusher).Flush()
		select {
		case <-heard:
		case <-time.After(10 * time.Second):
			t.Error("the first event was held back")
		}
		_, _ = io.WriteString(w, "data: two\n\n")
	})
	resp, err := w.browser().Get("https://api.example.com/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	for range 2 {
		if _, err := in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	close(heard)
	if rest, err := io.ReadAll(in); err != nil || string(rest) != "data: two\n\n" {
		t.Errorf("%q, %v", rest, err)
	}
}

// TestASecretInAStreamIsStoppedHoweverItIsCut sends a secret in pieces, far into
// a long answer: nothing of it arrives but what other words begin with too.
func TestASecretInAStreamIsStoppedHoweverItIsCut(t *testing.T) {
	for name, secret := range map[string]string{
		"plain": webSecret, "base64": "czNjcjN0LXRva2VuLW9mLXRoZS1nYXRld2F5",
	} {
		for _, cut := range []int{1, len(secret) / 2, len(secret) - 1} {
			w := streaming(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = w.Write(bytes.Repeat([]byte("x"), 300<<10))
				for _, piece := range []string{secret[:cut], secret[cut:]} {
					_, _ = io.WriteString(w, piece)
					w.(http.Flusher).Flush()
					time.Sleep(20 * time.Millisecond)
				}
				_, _ = w.Write(bytes.Repeat([]byte("y"), 1<<20))
			})
			resp, err := w.browser().Get("https://api.example.com/v1/x")
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err == nil || strings.Contains(string(got), secret[:4]) || strings.Contains(string(got), "y") || len(got) < 256<<10 {
				t.Errorf("%s cut at %d: %d bytes, %v", name, cut, len(got), err)
			}
			if status, _, _ := w.outcome(); status != "error" {
				t.Errorf("%s cut at %d: outcome %s", name, cut, status)
			}
		}
	}
}

func TestASecretThatIsOnlyBegunArrivesWhole(t *testing.T) {
	text := strings.Repeat("x", 300<<10) + webSecret[:len(webSecret)-1]
	w := streaming(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, text) })
	if status, got := get(t, w.browser(), "https://api.example.com/v1/x"); status != 200 || got != text {
		t.Errorf("%d, %d bytes of %d", status, len(got), len(text))
	}
}

func TestAStreamThatFailsOrIsNotEnteredIsBrokenOff(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 300<<10)
	for name, change := range map[string]func(w *world){
		"the upstream breaks off": nil,
		"the log takes no outcome": func(w *world) {
			w.log.fail = func(e provenance.Entry) error {
				if e.Kind == provenance.KindOutcome {
					return io.ErrShortWrite
				}
				return nil
			}
		},
	} {
		w := streaming(t, func(w http.ResponseWriter, r *http.Request) {
			if change == nil {
				w.Header().Set("Content-Length", "400000")
			} else {
				w.Header().Set("Content-Length", "307200")
			}
			_, _ = w.Write(long)
		})
		if change != nil {
			change(w)
		}
		resp, err := w.browser().Get("https://api.example.com/v1/x")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(resp.Body); err == nil || len(got) > len(long) || change != nil && len(got) == len(long) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		_ = resp.Body.Close()
	}
}

func TestASilentStreamIsEnded(t *testing.T) {
	w := streaming(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(bytes.Repeat([]byte("x"), 300<<10))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	w.cfg.Timeout = 300 * time.Millisecond
	w.restart()
	resp, err := w.browser().Get("https://api.example.com/v1/x")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("a stream without an end came whole")
	}
	if status, _, _ := w.outcome(); status != "error" {
		t.Errorf("outcome %s", status)
	}
}

func TestALabelIsThereBeforeTheFirstByteOfAStream(t *testing.T) {
	waits := make(chan struct{})
	w := streaming(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(bytes.Repeat([]byte("x"), 300<<10))
		w.(http.Flusher).Flush()
		<-waits
	})
	resp, err := w.browser().Get("https://api.example.com/v1/x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	w.call("files", "read", `{"path":"/data/public/a"}`)
	close(waits)
	_ = resp.Body.Close()
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	for _, e := range w.log.entries {
		if e.Kind == provenance.KindIntent && e.Resource == "files/read" && !strings.Contains(string(e.Input), "untrusted:api") {
			t.Errorf("decided on %s", e.Input)
		}
	}
}
