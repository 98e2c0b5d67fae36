package images

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"omega/internal/cache"
	"omega/internal/lock"
)

// TestASecondProviderStepsIn fetches a package whose first provider is a mirror
// with faults, and whose second one is an archive on this machine.
func TestASecondProviderStepsIn(t *testing.T) {
	const member = "usr/share/tool/data"
	deb := makeDeb(t, member, "payload")
	sum := sha1.Sum(deb)
	name := hex.EncodeToString(sum[:])
	pinned := lock.Entry{
		Name: "tool", Kind: "deb", Package: "tool", Version: "1.0", Size: int64(len(deb)), SHA256: sha256.Sum256(deb),
		Members:   []lock.Member{{Path: member, SHA256: sha256.Sum256([]byte("payload"))}},
		Providers: []lock.Provider{{Kind: "apt", Suite: "any"}, {Kind: "snapshot", SHA1: name}},
	}
	garbled := bytes.Clone(deb)
	garbled[len(garbled)-1] ^= 1
	tests := []struct {
		name        string
		mirror      []byte // nil: it dropped the package
		archive     []byte // nil: it never had it
		status      int    // of the archive; 0 is good
		want        []string
		asked, told bool // the archive was asked; the mirror's bytes were told of
	}{
		{name: "the mirror has it", mirror: deb, archive: deb},
		{name: "the mirror dropped it", archive: deb, asked: true},
		{name: "the mirror garbles it", mirror: garbled, archive: deb, asked: true, told: true},
		{name: "both garble it", mirror: garbled, archive: garbled, asked: true, told: true, want: []string{"from apt any", "from snapshot " + name, hex.EncodeToString(pinned.SHA256[:])}},
		{name: "the archive gives less", archive: deb[:100], asked: true, want: []string{"dropped", "100 bytes"}},
		{name: "the archive gives more", archive: append(bytes.Clone(deb), make([]byte, 1<<20)...), asked: true, want: []string{"bytes or more"}},
		{name: "neither has it", asked: true, want: []string{"dropped", "404 Not Found"}},
		{name: "the archive is out of order", archive: deb, status: http.StatusServiceUnavailable, asked: true, want: []string{"503"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			asked := false
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = true
				switch {
				case tt.archive == nil || r.URL.Path != "/file/"+name:
					http.NotFound(w, r)
				case tt.status != 0:
					w.WriteHeader(tt.status)
				default:
					_, _ = w.Write(tt.archive) // the client may have heard enough
				}
			}))
			defer server.Close()
			var told []string
			s := pinnedStore(t, pinned, func(string) ([]byte, error) {
				if tt.mirror == nil {
					return nil, errors.New("dropped")
				}
				return tt.mirror, nil
			})
			s.report = func(name string) Step { told = append(told, name); return silent{} }
			s.providers["snapshot"] = (&snapshot{base: server.URL + "/file/"}).fetch
			path, err := s.File(t.Context(), "tool", member)
			if len(tt.want) == 0 {
				if b, readErr := os.ReadFile(path); err != nil || readErr != nil || string(b) != "payload" {
					t.Fatalf("content %q, errors %v, %v", b, err, readErr)
				}
			}
			for _, want := range tt.want {
				expect(t, err, want)
			}
			if asked != tt.asked || strings.Contains(strings.Join(told, "\n"), "another tool than the pinned one") != tt.told {
				t.Errorf("archive asked: %v; told %q", asked, told)
			}
			if cached := s.cache.Has("fetched", cache.Key(pinned.SHA256)); cached != (len(tt.want) == 0) {
				t.Errorf("in the cache: %v", cached)
			}
		})
	}
}

func TestAnArchiveThatHangsIsLeftWhenTheUserGivesUp(t *testing.T) {
	done := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-done }))
	defer server.Close()
	defer close(done)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	dir := t.TempDir()
	err := (&snapshot{base: server.URL + "/"}).fetch(ctx, lock.Entry{Package: "tool", Size: 1}, lock.Provider{SHA1: "x"}, dir)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if list, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(list) > 0 {
		t.Errorf("left behind %q, %v", list, err)
	}
}

func TestWithoutAnArchiveTheUserIsToldToNameOne(t *testing.T) {
	err := new(snapshot).fetch(t.Context(), lock.Entry{Package: "tool", Size: 1}, lock.Provider{SHA1: "x"}, t.TempDir())
	if err == nil || !strings.Contains(err.Error(), snapshotVariable) {
		t.Errorf("error %v does not name %s", err, snapshotVariable)
	}
}
