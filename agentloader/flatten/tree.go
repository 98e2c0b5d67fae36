package flatten

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

type kind int

const (
	directory kind = iota + 1
	regular
	symlink
)

// A node is one file of the image as it stands after the layers so far.
type node struct {
	kind     kind
	mode     uint32 // permission bits and sticky
	uid, gid uint32
	mtime    int64
	layer    int // the layer that said so last
	children map[string]*node
	target   string  // of a symlink
	data     *extent // of a regular file; shared by hard links
}

// An extent is where the spool holds a file's contents.
type extent struct{ off, size int64 }

func newDir(layer int) *node {
	return &node{kind: directory, mode: 0o755, mtime: stamp, layer: layer, children: map[string]*node{}}
}

func (n *node) isDir() bool { return n.kind == directory }

// hide removes what lower layers put below n and reports whether anything of this layer is left.
func (n *node) hide(layer int) bool {
	for name, c := range n.children {
		if !c.hide(layer) {
			delete(n.children, name)
		}
	}
	return n.layer == layer || len(n.children) > 0
}

// Bounds of a name, as Linux has them (limits.h: NAME_MAX, PATH_MAX), and of the depth.
const (
	maxName  = 255
	maxPath  = 4095
	maxDepth = 64
)

// split cuts an entry's name into its parts. The root itself has none.
func split(name string) ([]string, error) {
	switch {
	case strings.HasPrefix(name, "/"):
		return nil, fmt.Errorf("%w: absolute name %.80q", ErrEntry, name)
	case len(name) > maxPath || strings.ContainsRune(name, 0) || !utf8.ValidString(name):
		return nil, fmt.Errorf("%w: name %.80q", ErrEntry, name)
	}
	var parts []string
	for p := range strings.SplitSeq(name, "/") {
		switch {
		case p == "" || p == ".":
		case p == "..":
			return nil, fmt.Errorf("%w: name %.80q climbs", ErrEntry, name)
		case len(p) > maxName:
			return nil, fmt.Errorf("%w: name %.80q is too long", ErrEntry, name)
		default:
			parts = append(parts, p)
		}
	}
	if len(parts) > maxDepth {
		return nil, fmt.Errorf("%w: name %.80q is %d deep", ErrEntry, name, len(parts))
	}
	return parts, nil
}

// parent returns the directory that holds the entry, making missing ones, which count as entries: one
// name can stand for a directory at each of its levels. It never follows a symlink.
func (f *Flattener) parent(parts []string) (*node, error) {
	dir := f.root
	for i, p := range parts[:len(parts)-1] {
		next := dir.children[p]
		if next == nil {
			if err := f.count(); err != nil {
				return nil, err
			}
			next = newDir(f.layer)
			dir.children[p] = next
		}
		if !next.isDir() {
			return nil, fmt.Errorf("%w: %.80q lies below %q, which is not a directory",
				ErrEntry, strings.Join(parts, "/"), strings.Join(parts[:i+1], "/"))
		}
		dir = next
	}
	return dir, nil
}

// lookup returns what stands at parts, or nil. It never follows a symlink.
func (f *Flattener) lookup(parts []string) *node {
	n := f.root
	for _, p := range parts {
		if n = n.children[p]; n == nil {
			return nil
		}
	}
	return n
}
