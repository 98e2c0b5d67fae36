package agentloader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"omega/agentloader/bundle"
	"omega/internal/verity"
)

// A File is a model, an adapter or a data set that an agent reads. Its bytes were held against the verity
// root when they came from the registry; on a disk, each block is when it is read.
type File struct {
	Kind, Name string
	Size       int64
	Root       bundle.Digest
	Path       string // empty: a disk of the machine holds it
}

// ErrRoot reports a file whose bytes do not have the verity root that its principal signed.
var ErrRoot = errors.New("file does not have its verity root")

// readFiles finds each file of the bundle on a disk, or pulls it.
func (c *candidate) readFiles(ctx context.Context) error {
	for _, p := range c.checked.Files {
		f := File{Kind: p.Kind, Name: p.Name, Size: p.Size, Root: p.Root}
		onDisk := false
		if find := c.loader.cfg.OnDisk; find != nil {
			var err error
			if onDisk, err = find(ctx, p.Root, p.Size); err != nil {
				return fmt.Errorf("%s %q: looking for its disk: %w", p.Kind, p.Name, err)
			}
		}
		if !onDisk {
			if err := c.pullFile(ctx, p, &f); err != nil {
				return fmt.Errorf("%s %q: %w", p.Kind, p.Name, err)
			}
		}
		c.files = append(c.files, f)
	}
	return nil
}

// pullFile pulls a file into memory and computes its root on the way.
func (c *candidate) pullFile(ctx context.Context, p bundle.Part, f *File) error {
	s := c.loader.store
	// The root stands for the content, so that agents share it whoever signed it for them.
	name := fmt.Sprintf("%s-%d.file", p.Root.Hex(), p.Size)
	c.hold(name)
	f.Path = s.path(name)
	return s.make(name, func(out *os.File) error {
		if err := s.room(p.Size); err != nil {
			return err
		}
		var tree *verity.Hasher
		err := c.repo.BlobThrough(ctx, p.Blob, p.Size, out, func() io.Writer { tree = verity.New(); return tree })
		if err != nil {
			return err
		}
		root, err := tree.Root()
		if err != nil {
			return err
		}
		if bundle.Digest(root) != p.Root {
			return fmt.Errorf("%w: it is %s, not %s", ErrRoot, bundle.Digest(root), p.Root)
		}
		return nil
	})
}
