package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"

	"omega/attest"
)

const (
	// maxUnpacked bounds an initramfs while it is compared.
	maxUnpacked = 1 << 30
	// maxTold is how many differences of one artifact are told.
	maxTold = 20
)

// A comparedFile is one artifact of two builds. A digest is "" where the build
// did not make the file.
type comparedFile struct {
	Name        string    `json:"name"`
	SHA256      [2]string `json:"sha256"`
	Differences []string  `json:"differences,omitempty"`
}

// compareFolders compares every file of two output folders by its SHA-256, and
// says of each one that differs where it does.
func compareFolders(a, b string) ([]comparedFile, error) {
	var names []string
	for _, dir := range []string{a, b} {
		list, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("comparing: %w", err)
		}
		for _, f := range list {
			// Only who signs can make the signature, so nobody can make it again.
			if f.Name() != "manifest.dsse.json" {
				names = append(names, f.Name())
			}
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 0 {
		return nil, errors.New("comparing: neither build made anything")
	}
	var out []comparedFile
	for _, name := range names {
		f, err := compareFile(a, b, name)
		if err != nil {
			return nil, fmt.Errorf("comparing %s: %w", name, err)
		}
		out = append(out, f)
	}
	return out, nil
}

func compareFile(a, b, name string) (comparedFile, error) {
	f := comparedFile{Name: name}
	var content [2][]byte
	for i, dir := range []string{a, b} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			f.Differences = []string{[]string{"only the second build made it", "only the first build made it"}[i]}
			continue
		}
		if err != nil {
			return f, err
		}
		sum := sha256.Sum256(data)
		content[i], f.SHA256[i] = data, hex.EncodeToString(sum[:])
	}
	if f.Differences == nil && f.SHA256[0] != f.SHA256[1] {
		f.Differences = explain(name, content[0], content[1])
		if extra := len(f.Differences) - maxTold; extra > 0 {
			f.Differences = append(f.Differences[:maxTold], fmt.Sprintf("and %d more", extra))
		}
	}
	return f, nil
}

// explain says where two unlike artifacts differ. It never returns nothing.
func explain(name string, a, b []byte) []string {
	var told []string
	var err error
	switch name {
	case "initrd":
		told, err = explainInitrd(a, b)
	case "omega.efi":
		told, err = explainUKI(a, b)
	case "manifest.json":
		told, err = explainManifest(a, b)
	case "sbom.spdx.json", "sbom.cdx.json":
		told, err = explainJSON(a, b)
	case "cmdline", "kernel.config", "NOTICES.txt":
		return []string{explainText(a, b)}
	}
	if err != nil {
		return []string{explainBytes(a, b), fmt.Sprintf("what is inside cannot be compared: %v", err)}
	}
	if len(told) == 0 {
		return []string{explainBytes(a, b)}
	}
	return told
}

// explainBytes names the first byte that differs.
func explainBytes(a, b []byte) string {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return fmt.Sprintf("differs from byte %d on (%d bytes and %d bytes)", n, len(a), len(b))
}

func explainText(a, b []byte) string {
	x, y := strings.Split(string(a), "\n"), strings.Split(string(b), "\n")
	n := 0
	for n < len(x) && n < len(y) && x[n] == y[n] {
		n++
	}
	line := func(list []string) string {
		if n < len(list) {
			return fmt.Sprintf("%.200q", list[n])
		}
		return "no such line"
	}
	return fmt.Sprintf("line %d: %s and %s", n+1, line(x), line(y))
}

func explainManifest(a, b []byte) ([]string, error) {
	x, err := attest.ParseManifest(a)
	if err != nil {
		return nil, err
	}
	y, err := attest.ParseManifest(b)
	if err != nil {
		return nil, err
	}
	var told []string
	for _, d := range compareManifests(x, y) {
		told = append(told, d.String())
	}
	return told, nil
}

// A packed file is one entry of an initramfs and its content.
type packed struct {
	cpio.Info
	content []byte
}

// explainInitrd unpacks both and compares them entry by entry.
func explainInitrd(a, b []byte) ([]string, error) {
	x, err := unpackInitrd(a)
	if err != nil {
		return nil, fmt.Errorf("first build: %w", err)
	}
	y, err := unpackInitrd(b)
	if err != nil {
		return nil, fmt.Errorf("second build: %w", err)
	}
	told := compareEntries(x, y)
	if len(told) > 0 {
		return told, nil
	}
	if !slices.EqualFunc(x, y, func(p, q packed) bool { return p.Name == q.Name }) {
		return []string{"the entries are equal but stand in another order"}, nil
	}
	return []string{"the entries are equal, but not their compression"}, nil
}

// unpackInitrd returns the entries of a zstd stream of a newc archive.
func unpackInitrd(b []byte) ([]packed, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxUnpacked))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	raw, err := z.DecodeAll(b, nil)
	if err != nil {
		return nil, err
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(raw)))
	if err != nil {
		return nil, err
	}
	var out []packed
	for _, r := range records {
		p := packed{Info: r.Info}
		if r.FileSize > 0 {
			if p.content, err = io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize))); err != nil {
				return nil, fmt.Errorf("%s: %w", r.Name, err)
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// compareEntries says in which entries two archives differ.
func compareEntries(a, b []packed) []string {
	x, y := byName(a), byName(b)
	var told []string
	for i, j := 0, 0; i < len(x) || j < len(y); {
		switch {
		case j == len(y) || i < len(x) && x[i].Name < y[j].Name:
			told = append(told, fmt.Sprintf("file %s: only in the first build", x[i].Name))
			i++
		case i == len(x) || y[j].Name < x[i].Name:
			told = append(told, fmt.Sprintf("file %s: only in the second build", y[j].Name))
			j++
		default:
			told = append(told, compareEntry(x[i], y[j])...)
			i, j = i+1, j+1
		}
	}
	return told
}

func byName(list []packed) []packed {
	return slices.SortedStableFunc(slices.Values(list), func(p, q packed) int { return cmp.Compare(p.Name, q.Name) })
}

func compareEntry(a, b packed) []string {
	var told []string
	fields := []struct {
		what, form string
		x, y       uint64
	}{
		{"mode", "%#o", a.Mode, b.Mode},
		{"owner", "%d", a.UID, b.UID},
		{"group", "%d", a.GID, b.GID},
		{"time", "%d", a.MTime, b.MTime},
		{"links", "%d", a.NLink, b.NLink},
		{"inode", "%d", a.Ino, b.Ino},
		{"device major", "%d", a.Rmajor, b.Rmajor},
		{"device minor", "%d", a.Rminor, b.Rminor},
		{"file system major", "%d", a.Major, b.Major},
		{"file system minor", "%d", a.Minor, b.Minor},
	}
	for _, f := range fields {
		if f.x != f.y {
			told = append(told, fmt.Sprintf("file %s: %s "+f.form+" and "+f.form, a.Name, f.what, f.x, f.y))
		}
	}
	if !bytes.Equal(a.content, b.content) {
		told = append(told, fmt.Sprintf("file %s: content %s", a.Name, explainBytes(a.content, b.content)))
	}
	return told
}
