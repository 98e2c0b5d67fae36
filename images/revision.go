package images

import (
	"crypto/sha1" // git's object names, beside SHA-256
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Revision names a source tree by its content, as git does: whoever has the
// same files gets the same names, from a clone, a tarball or a copy.
type Revision struct {
	GitTree       string // git's SHA-1 object name: `git log --format=raw` finds the commit
	GitTreeSHA256 string // the same object in git's SHA-256 format, for those who do not trust SHA-1
}

// unversioned are the paths that .gitignore leaves out; a pattern with a slash
// in front counts at the root alone.
var unversioned = []string{"/build", "/bin", "/omega", "*.test"}

// SourceRevision names the tree at root as it stands: a clean checkout gives
// the tree of its commit, and a changed one a name that no commit has.
func SourceRevision(root string) (Revision, error) {
	t, err := readTree(root, true)
	if err != nil {
		return Revision{}, fmt.Errorf("source revision: %w", err)
	}
	if t == nil {
		return Revision{}, errors.New("source revision: the tree is empty")
	}
	return Revision{hex.EncodeToString(t.sha1), hex.EncodeToString(t.sha256)}, nil
}

// A treeNode is an object of git with its name in both formats.
type treeNode struct {
	mode, name   string
	sha1, sha256 []byte
}

// sortName is how git orders a node in its tree: a folder as if it ended in a slash.
func (n treeNode) sortName() string {
	if n.mode == "40000" {
		return n.name + "/"
	}
	return n.name
}

// readTree returns the tree object of dir, or nil where nothing in it counts.
func readTree(dir string, root bool) (*treeNode, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var nodes []treeNode
	for _, d := range list {
		if d.Name() == ".git" || ignored(d.Name(), root) {
			continue
		}
		n, err := readNode(filepath.Join(dir, d.Name()), d)
		if err != nil {
			return nil, err
		}
		if n != nil {
			nodes = append(nodes, *n)
		}
	}
	if len(nodes) == 0 {
		return nil, nil
	}
	slices.SortFunc(nodes, func(a, b treeNode) int { return strings.Compare(a.sortName(), b.sortName()) })
	t := &treeNode{mode: "40000", name: filepath.Base(dir)}
	t.sha1 = treeObject(sha1.New(), nodes, func(n treeNode) []byte { return n.sha1 })
	t.sha256 = treeObject(sha256.New(), nodes, func(n treeNode) []byte { return n.sha256 })
	return t, nil
}

func ignored(name string, root bool) bool {
	for _, pattern := range unversioned {
		bare, atRoot := strings.CutPrefix(pattern, "/")
		if match, err := filepath.Match(bare, name); err == nil && match && (root || !atRoot) {
			return true
		}
	}
	return false
}

func treeObject(h hash.Hash, nodes []treeNode, name func(treeNode) []byte) []byte {
	var body []byte
	for _, n := range nodes {
		body = append(fmt.Appendf(body, "%s %s\x00", n.mode, n.name), name(n)...)
	}
	fmt.Fprintf(h, "tree %d\x00", len(body))
	h.Write(body)
	return h.Sum(nil)
}

func readNode(path string, d fs.DirEntry) (*treeNode, error) {
	switch d.Type() {
	case fs.ModeDir:
		return readTree(path, false)
	case fs.ModeSymlink:
		link, err := os.Readlink(path)
		if err != nil {
			return nil, err
		}
		return blob("120000", d.Name(), strings.NewReader(link), int64(len(link)))
	case 0:
	default:
		return nil, nil // sockets and pipes, which git does not see either
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	mode := "100644"
	if info.Mode()&0o100 != 0 {
		mode = "100755"
	}
	return blob(mode, d.Name(), f, info.Size())
}

func blob(mode, name string, content io.Reader, size int64) (*treeNode, error) {
	a, b := sha1.New(), sha256.New()
	both := io.MultiWriter(a, b)
	fmt.Fprintf(both, "blob %d\x00", size)
	n, err := io.Copy(both, content)
	if err == nil && n != size {
		err = fmt.Errorf("%s changed while it was read", name)
	}
	if err != nil {
		return nil, err
	}
	return &treeNode{mode, name, a.Sum(nil), b.Sum(nil)}, nil
}
