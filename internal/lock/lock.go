// Package lock reads the lock file: the list of everything that a build may
// fetch, each thing with the digest it must have. It fetches nothing itself.
package lock

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"regexp"
	"strings"

	"omega/internal/strictjson"
)

// Version is the format that Parse accepts.
const Version = "omega/lock/v1"

// maxBytes bounds a lock file; ours has a few kilobytes.
const maxBytes = 256 << 10

// A Digest is a SHA-256 digest, in hex where it is text.
type Digest [sha256.Size]byte

// String returns d in hex.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText encodes d in hex.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText accepts 64 lower-case hex digits.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(d)) || strings.ToLower(string(text)) != string(text) {
		return fmt.Errorf("digest %q: want %d lower-case hex digits", text, hex.EncodedLen(len(d)))
	}
	_, err := hex.Decode(d[:], text)
	return err
}

// A File is a parsed lock file.
type File struct {
	Version string  `json:"version"`
	Entries []Entry `json:"entries"`
}

// An Entry pins one package. Every provider has to give the same bytes.
type Entry struct {
	Name      string     `json:"name"`
	Kind      string     `json:"kind"` // "deb" is the only one
	Package   string     `json:"package"`
	Version   string     `json:"version"`
	Size      int64      `json:"size"`
	SHA256    Digest     `json:"sha256"`
	Members   []Member   `json:"members"`
	Providers []Provider `json:"providers"`
}

// A Member pins one file inside a package.
type Member struct {
	Path   string `json:"path"`
	SHA256 Digest `json:"sha256"`
}

// A Provider is one place that has the package: a suite of the machine's own
// Debian archive, or the public archive of all that Debian ever published. It is
// never believed: the digest decides.
type Provider struct {
	Kind  string `json:"kind"` // apt or snapshot
	Suite string `json:"suite,omitempty"`
	SHA1  string `json:"sha1,omitempty"` // by which a snapshot archive names the file
}

// String names the provider in words.
func (p Provider) String() string { return p.Kind + " " + p.Suite + p.SHA1 }

// A MismatchError reports bytes that are not the pinned ones.
type MismatchError struct {
	Name      string
	Got, Want Digest
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s: its sha256 is %s, but the lock file says %s", e.Name, e.Got, e.Want)
}

// Names and versions become arguments of programs, so their alphabet is small
// (Debian Policy 5.6.1 and 5.6.12).
var (
	nameForm    = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{0,63}$`)
	sha1Form    = regexp.MustCompile(`^[0-9a-f]{40}$`)
	versionForm = regexp.MustCompile(`^[0-9][A-Za-z0-9.+:~-]{0,127}$`)
)

// Parse reads a lock file and refuses whatever it does not know.
func Parse(b []byte) (*File, error) {
	var f File
	if err := strictjson.Decode(b, &f, strictjson.Limits{MaxBytes: maxBytes}); err != nil {
		return nil, fmt.Errorf("lock file: %w", err)
	}
	if f.Version != Version {
		return nil, fmt.Errorf("lock file: version %q, want %q", f.Version, Version)
	}
	seen := map[string]bool{}
	for _, e := range f.Entries {
		if seen[e.Name] {
			return nil, fmt.Errorf("lock file: %q is there twice", e.Name)
		}
		seen[e.Name] = true
		if err := e.validate(); err != nil {
			return nil, fmt.Errorf("lock file: entry %q: %w", e.Name, err)
		}
	}
	return &f, nil
}

// Entry returns the entry called name.
func (f *File) Entry(name string) (Entry, error) {
	for _, e := range f.Entries {
		if e.Name == name {
			return e, nil
		}
	}
	return Entry{}, fmt.Errorf("lock file: no entry %q", name)
}

// Member returns the pinned digest of the file at path.
func (e Entry) Member(path string) (Member, error) {
	for _, m := range e.Members {
		if m.Path == path {
			return m, nil
		}
	}
	return Member{}, fmt.Errorf("lock file: entry %q has no member %q", e.Name, path)
}

func (e Entry) validate() error {
	switch {
	case !nameForm.MatchString(e.Name):
		return fmt.Errorf("name is not of the form %s", nameForm)
	case e.Kind != "deb":
		return fmt.Errorf("unknown kind %q", e.Kind)
	case !nameForm.MatchString(e.Package):
		return fmt.Errorf("package %q is not of the form %s", e.Package, nameForm)
	case !versionForm.MatchString(e.Version):
		return fmt.Errorf("version %q is not of the form %s", e.Version, versionForm)
	case e.Size <= 0 || e.Size > 1<<32:
		return fmt.Errorf("size %d is out of range", e.Size)
	case e.SHA256 == Digest{}:
		return fmt.Errorf("no sha256")
	case len(e.Providers) == 0:
		return fmt.Errorf("no provider")
	}
	for _, p := range e.Providers {
		apt := p.Kind == "apt" && nameForm.MatchString(p.Suite) && p.SHA1 == ""
		snapshot := p.Kind == "snapshot" && sha1Form.MatchString(p.SHA1) && p.Suite == ""
		if !apt && !snapshot {
			return fmt.Errorf("unknown provider %q %q", p.Kind, p.Suite+p.SHA1)
		}
	}
	for _, m := range e.Members {
		if m.Path != path.Clean(m.Path) || path.IsAbs(m.Path) || m.Path == "." || strings.HasPrefix(m.Path, "..") {
			return fmt.Errorf("member %q is not a clean relative path", m.Path)
		}
		if m.SHA256 == (Digest{}) {
			return fmt.Errorf("member %q has no sha256", m.Path)
		}
	}
	return nil
}
