package bundle

import (
	"errors"
	"fmt"
	"iter"
	"slices"

	"omega/internal/verity"
)

// The kinds of components that are raw files, and the role of who signs one.
const (
	KindModel   = RoleModel
	KindAdapter = RoleAdapter
	KindData    = RoleData
)

// FileKinds are the kinds of files that a bundle can name.
func FileKinds() []string { return []string{KindModel, KindAdapter, KindData} }

// File names a model, an adapter or a data set: by the digest of its artifact, which its principal signs,
// and by the size and the verity root of the file itself (package verity: SHA-256, blocks of 4096 bytes,
// no salt). The root stands for every block, so that a file is bound without being read.
type File struct {
	Name   string `json:"name"`
	Digest Digest `json:"digest"`
	Size   int64  `json:"size"`
	Root   Digest `json:"root"`
}

// Files goes through all files with their kinds, in the order of the manifest.
func (m *Manifest) Files() iter.Seq2[string, File] {
	return func(yield func(string, File) bool) {
		if m.Model != nil && !yield(KindModel, *m.Model) {
			return
		}
		for _, list := range []struct {
			kind  string
			files []File
		}{{KindAdapter, m.Adapters}, {KindData, m.Data}} {
			for _, f := range list.files {
				if !yield(list.kind, f) {
					return
				}
			}
		}
	}
}

// maxFiles bounds the files of one agent.
const maxFiles = 16

func (m *Manifest) checkFiles() error {
	seen := map[[2]string]bool{}
	for kind, f := range m.Files() {
		if err := f.validate(); err != nil {
			return fmt.Errorf("%s %.80q: %w", kind, f.Name, err)
		}
		if seen[[2]string{kind, f.Name}] {
			return fmt.Errorf("%s %.80q comes twice", kind, f.Name)
		}
		seen[[2]string{kind, f.Name}] = true
	}
	if len(seen) > maxFiles {
		return fmt.Errorf("%d models, adapters and data sets, at most %d", len(seen), maxFiles)
	}
	if m.Model == nil && len(m.Adapters) > 0 {
		return errors.New("adapters without a model")
	}
	return nil
}

func (f *File) validate() error {
	switch {
	case !ValidName(f.Name):
		return errors.New("that is no name")
	case f.Digest.IsZero() || f.Root.IsZero():
		return errors.New("it has no digest or no verity root")
	case f.Size <= 0 || f.Size > verity.MaxSize:
		return fmt.Errorf("%d bytes", f.Size)
	}
	return nil
}

// validFileKind reports whether a file can be of that kind.
func validFileKind(kind string) bool { return slices.Contains(FileKinds(), kind) }
