package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"omega/agentloader/bundle"
)

// pullFile pulls content from handler into a file, and returns what the file and the reader of the bytes got.
func pullFile(t *testing.T, cfg Config, handler http.HandlerFunc) (file, through []byte, err error) {
	t.Helper()
	server := httptest.NewServer(handler)
	defer server.Close()
	cfg.Mirror, cfg.Backoff = server.URL, time.Millisecond
	c, err := New(cfg)
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
	seen := new(bytes.Buffer)
	err = r.BlobThrough(t.Context(), descriptor(), 100, f, func() io.Writer { seen.Reset(); return seen })
	if err != nil {
		return nil, nil, err
	}
	file, err = io.ReadAll(f)
	return file, seen.Bytes(), err
}

func TestBrokenTransfersGoOnWhereTheyStopped(t *testing.T) {
	last := len(content) - 1
	tests := []struct {
		name   string
		second http.HandlerFunc // answers once the first try broke off after four bytes
		ranges string           // that the tries asked for
		want   error
	}{
		{"with the rest", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 4-%d/%d", last, len(content)))
			w.WriteHeader(206)
			w.Write(content[4:])
		}, "| bytes=4-", nil},
		{"with the whole", func(w http.ResponseWriter, _ *http.Request) { w.Write(content) }, "| bytes=4-", nil},
		{"with another part, then the whole", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") == "" {
				w.Write(content)
				return
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", last, len(content)))
			w.WriteHeader(206)
			w.Write(content)
		}, "| bytes=4-| ", nil},
		{"with nothing, then the whole", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") == "" {
				w.Write(content)
				return
			}
			w.WriteHeader(416)
		}, "| bytes=4-| ", nil},
		{"with another content's rest", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 4-%d/%d", last, len(content)))
			w.WriteHeader(206)
			w.Write(bytes.ToUpper(content[4:]))
		}, "| bytes=4-", ErrDigest},
		{"with more than the rest", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 4-%d/%d", last, len(content)))
			w.WriteHeader(206)
			w.Write(append(bytes.Clone(content[4:]), "more"...))
		}, "| bytes=4-", ErrLength},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var asked []string
			file, through, err := pullFile(t, Config{Tries: 4}, func(w http.ResponseWriter, r *http.Request) {
				asked = append(asked, r.Header.Get("Range"))
				if len(asked) > 1 {
					tt.second(w, r)
					return
				}
				w.Header().Set("Content-Length", fmt.Sprint(len(content)))
				w.Write(content[:4])
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			})
			if !errors.Is(err, tt.want) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			if got := "| " + strings.Join(asked[1:], "| "); got != tt.ranges {
				t.Errorf("asked for %q, want %q", got, tt.ranges)
			}
			if err == nil && (!bytes.Equal(file, content) || !bytes.Equal(through, content)) {
				t.Errorf("file %q, through %q", file, through)
			}
		})
	}
}

func TestLongTransfersTellTheLogHowFarTheyAre(t *testing.T) {
	out := new(bytes.Buffer)
	tr := &transfer{path: "blobs/x", size: 8, max: 8, log: slog.New(slog.NewTextHandler(out, nil)),
		sink: func() (io.Writer, error) { return io.Discard, nil }}
	if err := tr.begin(&http.Response{StatusCode: 200, ContentLength: 8, Request: &http.Request{}}); err != nil {
		t.Fatal(err)
	}
	tr.Write([]byte("1234"))
	if out.Len() > 0 {
		t.Errorf("told at once: %s", out)
	}
	tr.told = tr.told.Add(-progressEvery - time.Second)
	tr.Write([]byte("5678"))
	if !strings.Contains(out.String(), "bytes=8 of=8") || !strings.Contains(out.String(), "blobs/x") {
		t.Errorf("log %q", out)
	}
	if bundle.Digest(tr.hash.Sum(nil)) != bundle.DigestOf([]byte("12345678")) {
		t.Error("the hash is over something else")
	}
}
