package flatten

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Whiteouts of an OCI layer (image-spec 1.1, layer.md, whiteouts).
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// maxID is the largest user or group id that an entry may carry.
const maxID = 1<<31 - 1

// meanName bounds the bytes of all names and link targets, for each entry that is allowed: they are kept
// in memory, and compress to nothing.
const meanName = 256

// apply reads one tar layer into the tree.
func (f *Flattener) apply(r io.Reader) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading tar: %w", err)
		}
		if err := f.count(); err != nil {
			return err
		}
		if f.text += len(h.Name) + len(h.Linkname); f.text/meanName > f.limits.Entries {
			return fmt.Errorf("%w: its names are too long for %d entries", ErrSize, f.limits.Entries)
		}
		if h.Typeflag == tar.TypeXGlobalHeader { // a comment, such as git archive writes
			continue
		}
		if err := f.entry(h, t); err != nil {
			return err
		}
	}
}

// count counts one entry, or one directory that a name implies.
func (f *Flattener) count() error {
	if f.entries++; f.entries > f.limits.Entries {
		return fmt.Errorf("%w: more than %d entries", ErrSize, f.limits.Entries)
	}
	return nil
}

func (f *Flattener) entry(h *tar.Header, content io.Reader) error {
	parts, err := split(h.Name)
	if err != nil {
		return err
	}
	if h.Uid < 0 || h.Uid > maxID || h.Gid < 0 || h.Gid > maxID {
		return fmt.Errorf("%w: %.80q belongs to %d:%d", ErrEntry, h.Name, h.Uid, h.Gid)
	}
	if len(parts) == 0 {
		if h.Typeflag != tar.TypeDir {
			return fmt.Errorf("%w: %.80q is no name", ErrEntry, h.Name)
		}
		f.describe(f.root, h)
		return nil
	}
	if parts[0] == reserved {
		return fmt.Errorf("%w: %.80q: /%s belongs to the platform", ErrEntry, h.Name, reserved)
	}
	base := parts[len(parts)-1]
	if strings.HasPrefix(base, whiteout) {
		return f.whiteOut(parts)
	}
	dir, err := f.parent(parts)
	if err != nil {
		return err
	}
	n, err := f.make(h, dir.children[base], content)
	if err != nil {
		return err
	}
	dir.children[base] = n
	return nil
}

// make returns the node that h asks for, in the place of old.
func (f *Flattener) make(h *tar.Header, old *node, content io.Reader) (*node, error) {
	if h.Typeflag == tar.TypeDir {
		n := old
		if n == nil || !n.isDir() {
			n = newDir(f.layer)
		}
		f.describe(n, h)
		return n, nil
	}
	// A layer must not name a path twice (image-spec 1.1, layer.md): which one counts would depend on the reader.
	if old != nil && (old.layer == f.layer || old.isDir() && old.hide(f.layer)) {
		return nil, fmt.Errorf("%w: %.80q comes twice in one layer", ErrEntry, h.Name)
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		return f.regular(h, content)
	case tar.TypeSymlink:
		return f.symlink(h)
	case tar.TypeLink:
		return f.hardLink(h)
	}
	return nil, fmt.Errorf("%w: %.80q is a %s", ErrEntry, h.Name, typeName(h.Typeflag))
}

// describe takes the metadata from h. Set-uid and set-gid bits are dropped: no agent gains rights by exec.
func (f *Flattener) describe(n *node, h *tar.Header) {
	n.mode = uint32(h.Mode) & 0o1777
	n.uid, n.gid = uint32(h.Uid), uint32(h.Gid)
	n.layer = f.layer
	// Kept, because Python's compiled files are valid only beside their source's own time. A layer's
	// bytes are pinned, so the image is the same every time.
	if n.mtime = stamp; h.ModTime.Unix() > 0 && h.ModTime.Unix() < 1<<33 {
		n.mtime = h.ModTime.Unix()
	}
}

func (f *Flattener) regular(h *tar.Header, content io.Reader) (*node, error) {
	// The declared size is bounded before a byte is read: ten gigabytes of zeros compress to nothing.
	if h.Size < 0 || h.Size > f.limits.Bytes-f.spooled {
		return nil, fmt.Errorf("%w: %.80q has %d bytes, %d are left", ErrSize, h.Name, h.Size, f.limits.Bytes-f.spooled)
	}
	n := &node{kind: regular, data: &extent{off: f.spooled, size: h.Size}}
	got, err := io.Copy(io.NewOffsetWriter(f.spool, f.spooled), content)
	f.spooled += got
	if err != nil {
		return nil, fmt.Errorf("reading %.80q: %w", h.Name, err)
	}
	f.describe(n, h)
	return n, nil
}

func (f *Flattener) symlink(h *tar.Header) (*node, error) {
	// A target may point anywhere: it is followed only inside the sandbox, where it can leave nothing.
	if h.Linkname == "" || len(h.Linkname) > maxPath || strings.ContainsRune(h.Linkname, 0) {
		return nil, fmt.Errorf("%w: %.80q is a symlink to %.80q", ErrEntry, h.Name, h.Linkname)
	}
	n := &node{kind: symlink, target: h.Linkname}
	f.describe(n, h)
	return n, nil
}

func (f *Flattener) hardLink(h *tar.Header) (*node, error) {
	parts, err := split(h.Linkname)
	if err != nil {
		return nil, fmt.Errorf("hard link %.80q: %w", h.Name, err)
	}
	old := f.lookup(parts)
	if old == nil || old.kind != regular {
		return nil, fmt.Errorf("%w: %.80q is a hard link to %.80q, which is no file of the image", ErrEntry, h.Name, h.Linkname)
	}
	n := *old
	n.layer = f.layer
	return &n, nil
}

// whiteOut removes what lower layers have at a name, or below a directory.
func (f *Flattener) whiteOut(parts []string) error {
	base := parts[len(parts)-1]
	dir := f.lookup(parts[:len(parts)-1])
	if dir == nil || !dir.isDir() {
		return nil
	}
	if base == opaque {
		for name, c := range dir.children {
			if !c.hide(f.layer) {
				delete(dir.children, name)
			}
		}
		return nil
	}
	name := strings.TrimPrefix(base, whiteout)
	if name == "" || name == "." || name == ".." || strings.HasPrefix(name, whiteout) {
		return fmt.Errorf("%w: whiteout %.80q", ErrEntry, strings.Join(parts, "/"))
	}
	if old := dir.children[name]; old != nil && !old.hide(f.layer) {
		delete(dir.children, name)
	}
	return nil
}

func typeName(flag byte) string {
	switch flag {
	case tar.TypeChar, tar.TypeBlock:
		return "device node"
	case tar.TypeFifo:
		return "fifo"
	}
	return fmt.Sprintf("tar entry of type %q", flag)
}
