// Package cache keeps what a build made under the digest of everything it was
// made from. A folder in it is complete or absent: it is filled aside and moved
// into place at once, and one process at a time fills it. Nothing is verified
// here beyond that; a key that leaves out an input is the caller's mistake.
package cache

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// A Key is the digest of all inputs of one thing.
type Key [32]byte

// String returns k in hex.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// A Cache is a folder of finished things.
type Cache struct{ root string }

// poll is how often a process looks whether another one has finished.
const poll = 100 * time.Millisecond

// Open returns the cache at root, which is made if it is not there. An empty
// root is the user's own cache folder.
func Open(root string) (*Cache, error) {
	if root == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("cache folder: %w", err)
		}
		root = filepath.Join(base, "omega")
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, fmt.Errorf("cache folder: %w", err)
	}
	return &Cache{root: root}, nil
}

// Root returns the folder that the cache lies in.
func (c *Cache) Root() string { return c.root }

// Has reports whether the thing is there already.
func (c *Cache) Has(kind string, k Key) bool {
	_, err := os.Stat(filepath.Join(c.root, kind, k.String()))
	return err == nil
}

// Dir returns the folder for kind and k. If it is not there, fill gets an empty
// folder; when fill succeeds that folder becomes the result, else it is removed.
// While another process fills the same folder, Dir waits for it.
func (c *Cache) Dir(ctx context.Context, kind string, k Key, fill func(dir string) error) (string, error) {
	final := filepath.Join(c.root, kind, k.String())
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
		return "", fmt.Errorf("cache: %w", err)
	}
	unlock, err := Lock(ctx, final+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	// The name is fixed, so a process that was killed leaves at most one
	// folder behind, and the next holder of the lock clears it away.
	temp := final + ".tmp"
	if err := errors.Join(removeAll(temp), os.Mkdir(temp, 0o755)); err != nil {
		return "", fmt.Errorf("cache: %w", err)
	}
	if err := fill(temp); err != nil {
		return "", errors.Join(err, removeAll(temp))
	}
	if err := ctx.Err(); err != nil {
		return "", errors.Join(err, removeAll(temp))
	}
	if err := os.Rename(temp, final); err != nil {
		return "", errors.Join(fmt.Errorf("cache: %w", err), removeAll(temp))
	}
	return final, nil
}

// Lock takes the lock at path, waiting for its holder, and returns what frees
// it. The lock dies with the process that holds it.
func Lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("waiting for %s: %w", path, ctx.Err())
		case <-time.After(poll):
		}
	}
}

// removeAll removes a tree even if a folder in it may not be written to.
func removeAll(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
