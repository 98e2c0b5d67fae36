package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// DevProfile is the name of what Tree makes. It is no image: nothing boots it.
const DevProfile = "dev"

// Tree writes the payload of an image as a folder, for `omega dev`: the same
// programs as in every profile, under a name of its own, without a kernel. What
// is in the folder already stays. Options.Out is the folder.
func Tree(ctx context.Context, o Options) error {
	store, err := NewStore(o.Cache, o.Report)
	if err != nil {
		return err
	}
	bin, err := os.MkdirTemp("", "omega-build-")
	if err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	defer os.RemoveAll(bin)
	p := profile{name: DevProfile, svn: svn, built: built, payload: payload}
	for _, f := range p.payload {
		if err := store.plant(ctx, p, f, bin, o); err != nil {
			return fmt.Errorf("payload: %s: %w", f.path, err)
		}
	}
	return nil
}

// plant puts one entry into the folder. Device nodes are the machine's own.
func (s *Store) plant(ctx context.Context, p profile, f file, bin string, o Options) error {
	path := filepath.Join(o.Out, filepath.FromSlash(f.path))
	switch f.from.kind {
	case "device":
		return nil
	case "directory":
		return errors.Join(os.MkdirAll(path, 0o755), os.Chmod(path, os.FileMode(f.mode)))
	}
	content, err := s.content(ctx, p, f, bin, o)
	if err != nil {
		return err
	}
	if err := writeFile(path, content); err != nil {
		return err
	}
	return os.Chmod(path, os.FileMode(f.mode))
}
