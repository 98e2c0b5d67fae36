package flatten

import (
	"io"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"
	"time"

	"github.com/erofs/go-erofs"
)

// view shows the tree to the EROFS writer as a file system, in a fixed order.
type view struct {
	root  *node
	spool *os.File
}

func (v view) find(op, name string) (*node, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	n := v.root
	if name == "." {
		return n, nil
	}
	for p := range strings.SplitSeq(name, "/") {
		if n = n.children[p]; n == nil {
			return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
	}
	return n, nil
}

// Open implements fs.FS. A file's contents are read from the spool only when the writer wants them.
func (v view) Open(name string) (fs.File, error) {
	n, err := v.find("open", name)
	if err != nil {
		return nil, err
	}
	f := &openFile{info: info{path.Base(name), n}, Reader: strings.NewReader("")}
	if n.kind == regular {
		f.Reader = io.NewSectionReader(v.spool, n.data.off, n.data.size)
	}
	return f, nil
}

// Stat implements fs.StatFS.
func (v view) Stat(name string) (fs.FileInfo, error) { return v.Lstat(name) }

// Lstat implements fs.ReadLinkFS.
func (v view) Lstat(name string) (fs.FileInfo, error) {
	n, err := v.find("stat", name)
	if err != nil {
		return nil, err
	}
	return info{path.Base(name), n}, nil
}

// ReadLink implements fs.ReadLinkFS.
func (v view) ReadLink(name string) (string, error) {
	n, err := v.find("readlink", name)
	if err != nil {
		return "", err
	}
	return n.target, nil
}

// ReadDir implements fs.ReadDirFS.
func (v view) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := v.find("readdir", name)
	if err != nil {
		return nil, err
	}
	list := make([]fs.DirEntry, 0, len(n.children))
	for base, c := range n.children {
		list = append(list, fs.FileInfoToDirEntry(info{base, c}))
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name() < list[j].Name() })
	return list, nil
}

type openFile struct {
	info info
	io.Reader
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *openFile) Close() error               { return nil }

type info struct {
	name string
	n    *node
}

func (i info) Name() string       { return i.name }
func (i info) ModTime() time.Time { return time.Unix(i.n.mtime, 0) }
func (i info) IsDir() bool        { return i.n.isDir() }

func (i info) Size() int64 {
	if i.n.kind == regular {
		return i.n.data.size
	}
	return 0
}

func (i info) Mode() fs.FileMode {
	mode := fs.FileMode(i.n.mode & 0o777)
	if i.n.mode&0o1000 != 0 {
		mode |= fs.ModeSticky
	}
	switch i.n.kind {
	case directory:
		mode |= fs.ModeDir
	case symlink:
		mode |= fs.ModeSymlink
	}
	return mode
}

// Sys hands owner and time to the EROFS writer.
func (i info) Sys() any {
	return &erofs.Stat{
		Mode: i.Mode(), Size: i.Size(), UID: i.n.uid, GID: i.n.gid, Mtime: uint64(i.n.mtime), Nlink: i.links(),
	}
}

func (i info) links() int {
	links := 1
	if i.n.isDir() {
		links = 2
		for _, c := range i.n.children {
			if c.isDir() {
				links++
			}
		}
	}
	return links
}
