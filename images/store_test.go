package images

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"omega/internal/cache"
	"omega/internal/lock"
)

// makeDeb packs one file into a package and returns the package's bytes.
func makeDeb(t *testing.T, path, content string) []byte {
	t.Helper()
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("dpkg-deb is not installed")
	}
	tree := t.TempDir()
	files := map[string]string{
		"DEBIAN/control": "Package: tool\nVersion: 1.0\nArchitecture: all\nMaintainer: Nobody <nobody@omega.invalid>\nDescription: a test\n",
		path:             content,
	}
	for name, text := range files {
		full := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(t.TempDir(), "tool.deb")
	if said, err := exec.Command("dpkg-deb", "--build", "--root-owner-group", tree, out).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// pinnedStore is a store with one entry, whose suites are served by give.
func pinnedStore(t *testing.T, e lock.Entry, give func(suite string) ([]byte, error)) *Store {
	t.Helper()
	c, err := cache.Open(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	fetch := func(_ context.Context, _ lock.Entry, p lock.Provider, dir string) error {
		b, err := give(p.Suite)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, "tool_1.0_all.deb"), b, 0o644)
	}
	return &Store{cache: c, lock: &lock.File{Entries: []lock.Entry{e}}, providers: map[string]provider{"apt": fetch}}
}

func TestFetchedPackagesHaveThePinnedDigests(t *testing.T) {
	const member = "usr/share/tool/data"
	deb := makeDeb(t, member, "payload")
	good := lock.Entry{
		Name: "tool", Kind: "deb", Package: "tool", Version: "1.0", Size: int64(len(deb)), SHA256: sha256.Sum256(deb),
		Members:   []lock.Member{{Path: member, SHA256: sha256.Sum256([]byte("payload"))}},
		Providers: []lock.Provider{{Kind: "apt", Suite: "first"}, {Kind: "apt", Suite: "second"}},
	}
	away := errors.New("no route to the archive")
	other := lock.Digest{0xaa}
	wrongPackage, wrongMember := good, good
	wrongPackage.SHA256 = other
	wrongMember.Members = []lock.Member{{Path: member, SHA256: other}}
	tests := []struct {
		name  string
		entry lock.Entry
		give  map[string]error // by suite; a suite that is not there gives the package
		want  []string
	}{
		{"all fits", good, nil, nil},
		{"the first provider is away", good, map[string]error{"first": away}, nil},
		{"every provider is away", good, map[string]error{"first": away, "second": away}, []string{"tool 1.0", "first", "second", away.Error()}},
		{"another package", wrongPackage, nil, []string{good.SHA256.String(), other.String()}},
		{"another file inside", wrongMember, nil, []string{good.Members[0].SHA256.String(), other.String()}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := pinnedStore(t, tt.entry, func(suite string) ([]byte, error) { return deb, tt.give[suite] })
			path, err := s.File(t.Context(), "tool", member)
			if len(tt.want) == 0 {
				b, readErr := os.ReadFile(path)
				if err != nil || readErr != nil || string(b) != "payload" {
					t.Fatalf("content %q, errors %v, %v", b, err, readErr)
				}
				return
			}
			for _, want := range tt.want {
				expect(t, err, want)
			}
			if s.cache.Has("fetched", cache.Key(tt.entry.SHA256)) {
				t.Error("what was refused is in the cache")
			}
		})
	}
}

func TestADamagedCacheIsNoticed(t *testing.T) {
	const member = "usr/share/tool/data"
	deb := makeDeb(t, member, "payload")
	e := lock.Entry{
		Name: "tool", Kind: "deb", Package: "tool", Version: "1.0", SHA256: sha256.Sum256(deb),
		Members:   []lock.Member{{Path: member, SHA256: sha256.Sum256([]byte("payload"))}},
		Providers: []lock.Provider{{Kind: "apt", Suite: "any"}},
	}
	s := pinnedStore(t, e, func(string) ([]byte, error) { return deb, nil })
	path, err := s.File(t.Context(), "tool", member)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = s.File(t.Context(), "tool", member)
	var mismatch *lock.MismatchError
	if !errors.As(err, &mismatch) {
		t.Errorf("error %v, want a mismatch", err)
	}
}

func TestTheLockFileParsesAndNamesWhatTheBuildFetches(t *testing.T) {
	c, err := cache.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewStore(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range s.lock.Entries {
		names = append(names, e.Name)
	}
	want := []string{"linux-source-6.12", "ovmf-amdsev", "systemd-stub", "ca-certificates", "qemu-system-x86", "qemu-system-data", "seabios"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	// A project file that names a host would send every user to it.
	if strings.Contains(string(lockFile), "://") {
		t.Error("the lock file names a host")
	}
	for _, e := range s.lock.Entries {
		last := e.Providers[len(e.Providers)-1]
		if len(e.Providers) < 2 || e.Providers[0].Kind != "apt" || last.Kind != "snapshot" {
			t.Errorf("%s: providers %v, want a suite and then the archive of everything", e.Name, e.Providers)
		}
	}
}

func TestTheDebianArchiveIsFoundInEitherFormOfSources(t *testing.T) {
	const keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
	tests := []struct {
		name  string
		files map[string]string
		want  archive
		err   string
	}{
		{"stanzas", map[string]string{"sources.list.d/debian.sources": "Types: deb\n# http://old.invalid/\nURIs: http://deb.invalid/debian\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: " + keys + "\n"},
			archive{"http://deb.invalid/debian", keys}, ""},
		{"the security archive comes first", map[string]string{"sources.list.d/debian.sources": "URIs: http://sec.invalid/\nSuites: bookworm-security\nComponents: main\nSigned-By: " + keys + "\n\nURIs: http://deb.invalid/debian\nSuites: bookworm\nComponents: main\nSigned-By: " + keys + "\n"},
			archive{"http://deb.invalid/debian", keys}, ""},
		{"one line", map[string]string{"sources.list": "# a comment\ndeb http://deb.invalid/debian bookworm main contrib\n"},
			archive{"http://deb.invalid/debian", ""}, ""},
		{"one line with options", map[string]string{"sources.list": "deb [arch=amd64 signed-by=" + keys + "] http://deb.invalid/debian bookworm main\n"},
			archive{"http://deb.invalid/debian", keys}, ""},
		{"other people's archives", map[string]string{
			"sources.list.d/a.sources": "URIs: http://other.invalid/\nSuites: stable\nComponents: main\nSigned-By: /k/other.gpg\n",
			"sources.list.d/b.list":    "deb [signed-by=" + keys + "] http://deb.invalid/debian bookworm main\n"},
			archive{"http://deb.invalid/debian", keys}, ""},
		{"disabled", map[string]string{"sources.list.d/a.sources": "Enabled: no\nURIs: http://deb.invalid/\nSuites: bookworm\nComponents: main\n"},
			archive{}, "no Debian archive"},
		{"nothing", nil, archive{}, "no Debian archive"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			etc := t.TempDir()
			if err := os.Mkdir(filepath.Join(etc, "sources.list.d"), 0o755); err != nil {
				t.Fatal(err)
			}
			for name, text := range tt.files {
				if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := debianSource(etc)
			expect(t, err, tt.err)
			if got != tt.want {
				t.Errorf("archive %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestTrustRootsAreCertificatesAndNothingElse(t *testing.T) {
	key := "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
	cert := "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
	expect(t, CheckRoots(nil), "no certificate")
	expect(t, CheckRoots([]byte(key)), "not a certificate")
	expect(t, CheckRoots([]byte(cert)), "certificate 1")
}
