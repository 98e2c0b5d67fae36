package agentloader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrFull reports a bundle that there is no room for. Running agents keep what is theirs.
var ErrFull = errors.New("no room for the bundle")

const (
	// maxIdle is how many files that no agent uses are kept, for agents that come back.
	maxIdle = 8
	// spareRoom is left free whatever is pulled: the sandboxes' images are written meanwhile.
	spareRoom = 16 << 20
)

// store keeps the images and files of agents by digest, each once for all agents that use it, and drops
// what nobody uses: the oldest beyond maxIdle, and any when room is short.
type store struct {
	dir string

	mu   sync.Mutex // guards what follows
	refs map[string]int
	idle []string // without references, the oldest first

	making sync.Mutex // one at a time: it is the memory that is scarce
}

func newStore(dir string) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("image directory: %w", err)
	}
	return &store{dir: dir, refs: map[string]int{}}, nil
}

func (s *store) path(name string) string { return filepath.Join(s.dir, name) }

// hold makes sure that name stays until it is released.
func (s *store) hold(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refs[name]++
	s.idle = slices.DeleteFunc(s.idle, func(n string) bool { return n == name })
}

// release gives up one hold.
func (s *store) release(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refs[name]--; s.refs[name] > 0 {
		return
	}
	delete(s.refs, name)
	if _, err := os.Stat(s.path(name)); err != nil {
		return // it was never made
	}
	s.idle = append(s.idle, name)
	if len(s.idle) > maxIdle {
		s.dropOldest()
	}
}

func (s *store) dropOldest() {
	_ = os.Remove(s.path(s.idle[0])) // what cannot be removed is used again under its digest
	s.idle = s.idle[1:]
}

// room makes sure that need bytes are free, at the cost of what nobody uses.
func (s *store) room(need int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		var st unix.Statfs_t
		if err := unix.Statfs(s.dir, &st); err != nil {
			return fmt.Errorf("room for images: %w", err)
		}
		free := int64(st.Bavail) * st.Bsize
		if need <= free-spareRoom {
			return nil
		}
		if len(s.idle) == 0 {
			return fmt.Errorf("%w: it takes %d bytes, %d are free", ErrFull, need, max(0, free-spareRoom))
		}
		s.dropOldest()
	}
}

// sweep drops all that nobody uses and reports whether there was anything.
func (s *store) sweep() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	had := len(s.idle) > 0
	for len(s.idle) > 0 {
		s.dropOldest()
	}
	return had
}

// make writes name by f unless it is there. It gets its name only when it is whole. A disk that turns out
// to be full is swept and written to once more.
func (s *store) make(name string, f func(*os.File) error) error {
	s.making.Lock()
	defer s.making.Unlock()
	if _, err := os.Stat(s.path(name)); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := s.write(name, f)
	if errors.Is(err, unix.ENOSPC) && s.sweep() {
		err = s.write(name, f)
	}
	if errors.Is(err, unix.ENOSPC) {
		err = fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

func (s *store) write(name string, f func(*os.File) error) (err error) {
	out, err := os.CreateTemp(s.dir, "new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			_ = os.Remove(out.Name())
		}
	}()
	if err := f(out); err != nil {
		return err
	}
	// Readable for runsc, which runs as somebody else; nobody may write it.
	if err := out.Chmod(0o444); err != nil {
		return err
	}
	return os.Rename(out.Name(), s.path(name))
}
