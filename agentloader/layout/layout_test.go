package layout

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"omega/agentloader/bundle"
)

// entry is one of an archive.
type entry struct {
	name string
	flag byte
	body []byte
}

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	b := new(bytes.Buffer)
	w := tar.NewWriter(b)
	for _, e := range entries {
		if e.flag == 0 {
			e.flag = tar.TypeReg
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: e.flag, Name: e.name, Size: int64(len(e.body)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func blob(b []byte) entry { return entry{name: "blobs/sha256/" + bundle.DigestOf(b).Hex(), body: b} }

func index(manifests ...[]byte) entry {
	var list []string
	for _, m := range manifests {
		list = append(list, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, bundle.TypeOCIManifest, bundle.DigestOf(m), len(m)))
	}
	return entry{name: "index.json", body: []byte(`{"schemaVersion":2,"manifests":[` + strings.Join(list, ",") + `]}`)}
}

// parts are a manifest with its blob, and a referrer of it.
func parts(t testing.TB) (subject, referrer, content []byte) {
	t.Helper()
	content = []byte(strings.Repeat("content ", 1000))
	subject, err := bundle.Artifact(bundle.TypeTools, bundle.TypeTools, content, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	referrer, err = bundle.Artifact(bundle.TypeSigstore, bundle.TypeSigstore, []byte("{}"),
		&bundle.OCIDescriptor{MediaType: bundle.TypeOCIManifest, Digest: bundle.DigestOf(subject), Size: int64(len(subject))}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return subject, referrer, content
}

func describe(b []byte) bundle.OCIDescriptor {
	return bundle.OCIDescriptor{Digest: bundle.DigestOf(b), Size: int64(len(b))}
}

func TestALayoutIsReadFromADisk(t *testing.T) {
	subject, referrer, content := parts(t)
	raw := archive(t, entry{name: "blobs/", flag: tar.TypeDir}, entry{name: "oci-layout", body: []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		blob(content), blob(referrer), index(subject, referrer), blob(subject))
	raw = append(raw, make([]byte, 1<<16)...) // a disk is larger than what lies on it
	l, err := Open(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := l.Manifest(t.Context(), bundle.DigestOf(subject), 1<<20); err != nil || !bytes.Equal(got, subject) {
		t.Errorf("manifest %q, %v", got, err)
	}
	if got, err := l.Blob(t.Context(), describe(content), 1<<20); err != nil || !bytes.Equal(got, content) {
		t.Errorf("blob of %d bytes, %v", len(got), err)
	}
	if got, err := l.Referrers(t.Context(), bundle.DigestOf(subject)); err != nil || len(got) != 1 || got[0] != bundle.DigestOf(referrer) {
		t.Errorf("referrers %v, %v", got, err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "blob"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seen := new(bytes.Buffer)
	if err := l.BlobThrough(t.Context(), describe(content), 1<<20, f, func() io.Writer { return seen }); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, content) || !bytes.Equal(seen.Bytes(), content) {
		t.Errorf("file of %d bytes, %v", len(got), err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Blob(over, describe(content), 1<<20); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

func TestALayoutThatLiesIsFoundOut(t *testing.T) {
	_, _, content := parts(t)
	other := bytes.Repeat([]byte("x"), len(content))
	named := blob(content)
	lies := func(body []byte) []byte { return archive(t, entry{name: named.name, body: body}, index()) }
	tests := []struct {
		name string
		raw  []byte
		ask  bundle.OCIDescriptor
		max  int64
		want error
	}{
		{"other bytes under a digest", lies(other), describe(content), 1 << 20, ErrDigest},
		{"fewer bytes", lies(content[1:]), describe(content), 1 << 20, ErrLength},
		{"more than wanted", lies(content), describe(content), 10, ErrLength},
		{"nothing", archive(t, index()), describe(content), 1 << 20, ErrNotFound},
		{"a symlink in its place", archive(t, entry{name: named.name, flag: tar.TypeSymlink}, index()), describe(content), 1 << 20, ErrNotFound},
		{"cut off", lies(content)[:len(content)], describe(content), 1 << 20, ErrLayout},
		{"no index", archive(t, named), describe(content), 1 << 20, ErrLayout},
		{"an index that is no JSON", archive(t, entry{name: "index.json", body: []byte("{")}), describe(content), 1 << 20, ErrLayout},
		{"an index that is too large", archive(t, entry{name: "index.json", body: make([]byte, maxIndex+1)}), describe(content), 1 << 20, ErrLayout},
		{"no archive", bytes.Repeat([]byte("no tar "), 1000), describe(content), 1 << 20, ErrLayout},
		{"zeros", make([]byte, 1<<16), describe(content), 1 << 20, ErrLayout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := Open(bytes.NewReader(tt.raw))
			if err == nil {
				_, err = l.Blob(t.Context(), tt.ask, tt.max)
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
	many := make([][]byte, maxManifests+1)
	if _, err := Open(bytes.NewReader(archive(t, index(many...)))); !errors.Is(err, ErrLayout) {
		t.Errorf("too many manifests: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	subject, referrer, content := parts(f)
	f.Add(archive(f, blob(content), blob(referrer), blob(subject), index(subject, referrer)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Open(bytes.NewReader(b))
		if err != nil {
			return
		}
		for d := range l.blobs {
			if got, err := l.Manifest(t.Context(), d, 1<<20); err == nil && bundle.DigestOf(got) != d {
				t.Fatalf("%s holds something else", d)
			}
		}
	})
}
