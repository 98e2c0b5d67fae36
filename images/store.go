package images

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"omega/internal/cache"
	"omega/internal/lock"
)

// lockFile pins everything that a build fetches.
//
//go:embed lock.json
var lockFile []byte

// ovmfMember is the measured firmware inside its package.
const ovmfMember = "usr/share/ovmf/OVMF.amdsev.fd"

// A provider puts the package of e into dir as one .deb file.
type provider func(ctx context.Context, e lock.Entry, p lock.Provider, dir string) error

// A Store hands out what the lock file pins, fetched once and kept unpacked.
type Store struct {
	cache     *cache.Cache
	report    Report
	lock      *lock.File
	providers map[string]provider
}

// NewStore returns the store over the lock file that this program was built with.
func NewStore(c *cache.Cache, r Report) (*Store, error) {
	f, err := lock.Parse(lockFile)
	if err != nil {
		return nil, err
	}
	apt := &apt{dir: filepath.Join(c.Root(), "apt")}
	snapshot := &snapshot{base: os.Getenv(snapshotVariable)}
	return &Store{cache: c, report: r, lock: f, providers: map[string]provider{"apt": apt.fetch, "snapshot": snapshot.fetch}}, nil
}

// File returns the path of one pinned file of the entry called name.
func (s *Store) File(ctx context.Context, name, member string) (string, error) {
	e, err := s.lock.Entry(name)
	if err != nil {
		return "", err
	}
	m, err := e.Member(member)
	if err != nil {
		return "", err
	}
	tree, err := s.Tree(ctx, name)
	if err != nil {
		return "", err
	}
	// The cache is the user's own, but a damaged file in it is found here.
	path := filepath.Join(tree, member)
	return path, checkFile(path, name+" "+member, m.SHA256)
}

// Tree returns the folder that the entry called name is unpacked in.
func (s *Store) Tree(ctx context.Context, name string) (string, error) {
	e, err := s.lock.Entry(name)
	if err != nil {
		return "", err
	}
	return s.cache.Dir(ctx, "fetched", cache.Key(e.SHA256), func(dir string) error {
		step := s.report.begin("fetching " + e.Package + " " + e.Version)
		defer step.Done()
		return s.fill(ctx, e, dir, step)
	})
}

// fill fetches and unpacks e into dir, and checks every digest on the way.
func (s *Store) fill(ctx context.Context, e lock.Entry, dir string, step Step) error {
	deb, err := s.fetch(ctx, e, filepath.Join(dir, ".fetch"), step)
	if err != nil {
		return err
	}
	if err := run(ctx, job{args: []string{"dpkg-deb", "-x", deb, dir}}); err != nil {
		return fmt.Errorf("unpacking %s: %w", e.Package, err)
	}
	if err := os.RemoveAll(filepath.Join(dir, ".fetch")); err != nil {
		return fmt.Errorf("unpacking %s: %w", e.Package, err)
	}
	for _, m := range e.Members {
		if err := checkFile(filepath.Join(dir, m.Path), e.Name+" "+m.Path, m.SHA256); err != nil {
			return err
		}
	}
	return nil
}

// fetch asks one provider after the other, in the lock file's order, until one
// gives the pinned bytes. Whoever gives others is told of, and not believed.
func (s *Store) fetch(ctx context.Context, e lock.Entry, dir string, step Step) (string, error) {
	var tried []error
	for _, p := range e.Providers {
		deb, err := s.fetchFrom(ctx, e, p, dir, step)
		if err == nil || ctx.Err() != nil {
			return deb, errors.Join(err, ctx.Err())
		}
		tried = append(tried, fmt.Errorf("fetching %s %s from %s: %w", e.Package, e.Version, p, err))
		var lies *lock.MismatchError
		if errors.As(err, &lies) {
			s.report.begin(p.Kind + " gave another " + e.Package + " than the pinned one; it is not used").Done()
		}
	}
	return "", errors.Join(tried...)
}

// fetchFrom gets e from one provider and checks its digest.
func (s *Store) fetchFrom(ctx context.Context, e lock.Entry, p lock.Provider, dir string, step Step) (string, error) {
	get := s.providers[p.Kind]
	if get == nil {
		return "", fmt.Errorf("unknown provider %q", p.Kind)
	}
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
		return "", err
	}
	stop := watchSize(dir, e.Size, step)
	err := get(ctx, e, p, dir)
	stop()
	if err != nil {
		return "", err
	}
	deb, err := onlyDeb(dir)
	if err != nil {
		return "", err
	}
	return deb, checkFile(deb, e.Package+" "+e.Version, e.SHA256)
}

// onlyDeb returns the one package in dir.
func onlyDeb(dir string) (string, error) {
	list, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(list) != 1 {
		return "", fmt.Errorf("%d packages arrived, want one", len(list))
	}
	return list[0], nil
}

// checkFile compares the file at path with its pinned digest.
func checkFile(path, name string, want lock.Digest) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("pinned file: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("pinned file: %w", err)
	}
	if got := lock.Digest(h.Sum(nil)); got != want {
		return &lock.MismatchError{Name: name, Got: got, Want: want}
	}
	return nil
}

// Authorities returns the public certificate authorities as one PEM bundle, in
// the order of their names: the trust roots of a policy that brings none.
func (s *Store) Authorities(ctx context.Context) ([]byte, error) {
	tree, err := s.Tree(ctx, "ca-certificates")
	if err != nil {
		return nil, err
	}
	names, err := filepath.Glob(filepath.Join(tree, "usr/share/ca-certificates/mozilla/*.crt")) // sorted
	if err != nil || len(names) == 0 {
		return nil, errors.New("ca-certificates: no certificates inside")
	}
	var bundle strings.Builder
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("ca-certificates: %w", err)
		}
		bundle.WriteString(strings.TrimRight(string(b), "\n") + "\n")
	}
	return []byte(bundle.String()), nil
}
