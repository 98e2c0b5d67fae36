// Package flatten turns the layers of an OCI image into one EROFS image, which the gVisor sentry
// reads as an agent's root.
//
// It never writes an entry to a path of its own: layers become an index in memory, file contents go
// to one nameless spool file, and the index is written out as EROFS at the end. So no name in a layer
// can reach outside. It does not check digests: the layers that it gets are already verified.
package flatten

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
)

// Limits bound one image, in all its layers together. A zero limit admits nothing.
type Limits struct {
	Bytes   int64 // contents of all files
	Entries int   // tar entries, and directories that only their names imply
}

// A File is one that the platform adds to every image.
type File struct {
	Path string // below the root, without a leading slash
	Data []byte
	Mode uint32 // permission bits
}

// ErrEntry reports a layer entry that a sandbox root may not hold.
var ErrEntry = errors.New("layer entry refused")

// ErrSize reports an image that is larger than its limits.
var ErrSize = errors.New("image is too large")

// stamp is the modification time of whatever has none of its own: 2020-01-01. It is not zero, which
// some programs take for "no file".
const stamp = 1577836800

// Flattener collects layers. Close it when done.
type Flattener struct {
	limits  Limits
	root    *node
	spool   *os.File
	spooled int64
	entries int
	text    int // bytes of names and link targets
	layer   int
}

// New returns a Flattener that keeps file contents in a nameless file in dir.
func New(dir string, limits Limits) (*Flattener, error) {
	spool, err := os.CreateTemp(dir, "spool-*")
	if err != nil {
		return nil, fmt.Errorf("making the spool: %w", err)
	}
	if err := os.Remove(spool.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("making the spool nameless: %w", err), spool.Close())
	}
	return &Flattener{limits: limits, root: newDir(0), spool: spool}, nil
}

// Close drops the spool.
func (f *Flattener) Close() error { return f.spool.Close() }

// AddLayer applies an uncompressed tar layer over those before it.
func (f *Flattener) AddLayer(r io.Reader) error {
	f.layer++
	return f.apply(r)
}

// mountPoints are the directories that the sandbox mounts over.
var mountPoints = []string{"proc", "dev", "sys", "tmp"}

// filePoints are the directories below which an agent's models, adapters and data sets are mounted. They hide
// what an image has there, and only for agents that have such files.
var filePoints = []string{"models", "adapters", "data"}

// reserved is the directory that belongs to the platform.
const reserved = ".omega"

// Finish adds the platform's files and writes the image.
func (f *Flattener) Finish(out io.WriteSeeker, files ...File) error {
	f.layer++
	f.limits.Entries = math.MaxInt // what the platform adds does not count
	for _, name := range mountPoints {
		switch n := f.root.children[name]; {
		case n == nil:
			f.root.children[name] = newDir(f.layer)
		case !n.isDir():
			return fmt.Errorf("%w: /%s is not a directory", ErrEntry, name)
		}
	}
	for _, name := range filePoints {
		if f.root.children[name] == nil {
			f.root.children[name] = newDir(f.layer)
		}
	}
	for _, file := range files {
		if err := f.addFile(file); err != nil {
			return err
		}
	}
	if err := writeErofs(out, f.root, f.spool); err != nil {
		return fmt.Errorf("writing EROFS: %w", err)
	}
	return nil
}

func (f *Flattener) addFile(file File) error {
	parts, err := split(file.Path)
	if err != nil {
		return err
	}
	dir, err := f.parent(parts)
	if err != nil {
		return err
	}
	off, err := f.keep(file.Data)
	if err != nil {
		return err
	}
	dir.children[parts[len(parts)-1]] = &node{
		kind: regular, mode: file.Mode & 0o777, mtime: stamp, layer: f.layer,
		data: &extent{off: off, size: int64(len(file.Data))},
	}
	return nil
}

// keep appends b to the spool. The platform's own files do not count against the limits.
func (f *Flattener) keep(b []byte) (int64, error) {
	off := f.spooled
	n, err := f.spool.WriteAt(b, off)
	f.spooled += int64(n)
	if err != nil {
		return 0, fmt.Errorf("writing the spool: %w", err)
	}
	return off, nil
}
