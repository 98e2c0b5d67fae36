package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A committedTree is what git has committed, and nothing else of the checkout.
type committedTree struct {
	commit string
	dirty  bool // the checkout has changes that are not in commit
	files  []treeFile
}

type treeFile struct {
	name string
	mode fs.FileMode // type, and whether it may be executed
	time time.Time
	data []byte
	link string
}

// committed reads HEAD of the checkout at root.
func committed(ctx context.Context, root string) (*committedTree, error) {
	head, err := git(ctx, root, "rev-parse", "--verify", "HEAD^{commit}")
	if err != nil {
		return nil, fmt.Errorf("repro builds what is committed, and %s is not a git checkout: clone the repository, "+
			"or compare two trees by hand with `omega build` and `omega measure --diff`: %w", root, err)
	}
	t := &committedTree{commit: string(bytes.TrimSpace(head))}
	if _, err := git(ctx, root, "cat-file", "-e", t.commit+":./go.mod"); err != nil {
		return nil, fmt.Errorf("the repository around %s has not committed omega; is this an unpacked tarball? %w", root, err)
	}
	status, err := git(ctx, root, "status", "--porcelain")
	if err != nil {
		return nil, err
	}
	t.dirty = len(status) > 0
	// No setting of the user's may change the bytes of a file.
	raw, err := git(ctx, root, "-c", "core.autocrlf=false", "-c", "core.eol=lf", "archive", "--format=tar", t.commit)
	if err != nil {
		return nil, err
	}
	if t.files, err = readTree(raw); err != nil {
		return nil, fmt.Errorf("reading commit %.12s: %w", t.commit, err)
	}
	return t, nil
}

func git(ctx context.Context, root string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", root}, args...)...)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("git: %w %s", err, bytes.TrimSpace(words.Bytes()))
	}
	return out.Bytes(), nil
}

func readTree(raw []byte) ([]treeFile, error) {
	var out []treeFile
	for r := tar.NewReader(bytes.NewReader(raw)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue // names the commit; it is no file of the tree
		}
		if !filepath.IsLocal(h.Name) {
			return nil, fmt.Errorf("file %q is outside", h.Name)
		}
		f := treeFile{name: filepath.Clean(h.Name), mode: h.FileInfo().Mode(), time: h.ModTime, link: h.Linkname}
		if f.data, err = io.ReadAll(r); err != nil {
			return nil, err
		}
		out = append(out, f)
	}
}

// unpack writes the tree to b.tree in the order, with the age and under
// the umask of b.
func (t *committedTree) unpack(b *reproBuild) error {
	files := t.files
	if b.reverse {
		files = slices.Clone(files)
		slices.Reverse(files)
	}
	for _, f := range files {
		if err := f.write(b); err != nil {
			return fmt.Errorf("clean tree: %w", err)
		}
	}
	return nil
}

func (f treeFile) write(b *reproBuild) error {
	path := filepath.Join(b.tree, f.name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	mode := 0o666 &^ b.umask
	if f.mode&0o100 != 0 {
		mode = 0o777 &^ b.umask
	}
	var err error
	switch f.mode.Type() {
	case fs.ModeDir:
		return errors.Join(os.MkdirAll(path, 0o755), os.Chmod(path, 0o777&^b.umask))
	case fs.ModeSymlink:
		return os.Symlink(f.link, path)
	case 0:
		err = os.WriteFile(path, f.data, mode)
	default:
		return fmt.Errorf("%s is a %v, which git does not have", f.name, f.mode.Type())
	}
	if err == nil {
		err = os.Chmod(path, mode) // our own umask may have taken bits away
	}
	if err == nil {
		when := f.time.Add(-b.older)
		err = os.Chtimes(path, when, when)
	}
	return err
}

// sameOrder reports whether the folders of two equal trees list their files in
// the same order.
func sameOrder(a, b string) (bool, error) {
	same := true
	err := filepath.WalkDir(a, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() || !same {
			return err
		}
		rel, err := filepath.Rel(a, path)
		if err != nil {
			return err
		}
		x, err := unsorted(path)
		if err != nil {
			return err
		}
		y, err := unsorted(filepath.Join(b, rel))
		same = slices.Equal(x, y)
		return err
	})
	return same, err
}

func unsorted(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

const (
	// sharedMemory is where Linux systems have a file system in memory. It lists
	// the newest file first, and disks by hash or by name.
	sharedMemory = "/dev/shm"
	// treeSpace is what a tree takes with all that is built in it, and more.
	treeSpace = 1 << 30
)

// otherFileSystem makes a folder in memory, or returns "" where there is no
// room for it.
func otherFileSystem(memory string) (string, error) {
	var fs unix.Statfs_t
	if memory == "" || unix.Statfs(memory, &fs) != nil || fs.Type != unix.TMPFS_MAGIC || fs.Flags&unix.ST_NOEXEC != 0 || fs.Bavail*uint64(fs.Bsize) < treeSpace {
		return "", nil
	}
	dir, err := os.MkdirTemp(memory, "omega-repro-")
	if err != nil {
		return "", fmt.Errorf("repro: %w", err)
	}
	return dir, nil
}
