package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"omega/internal/lock"
)

// snapshotVariable names the archive of every package that was ever published,
// as a base URL that takes a file's SHA-1, for instance that of Debian's public
// one. Which archive it is matters to nobody: the pinned digest decides.
const snapshotVariable = "OMEGA_SNAPSHOT"

// A snapshot fetches packages from such an archive.
type snapshot struct {
	base   string
	client http.Client
}

// fetch downloads e by the name that p has for it. It is the caller who checks
// the pinned digest; SHA-1 here is a name and nothing else.
func (s *snapshot) fetch(ctx context.Context, e lock.Entry, p lock.Provider, dir string) error {
	if s.base == "" {
		return errors.New("set " + snapshotVariable + " to the URL under which a snapshot archive has files by SHA-1 (.../file/)")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(s.base, "/")+"/"+p.SHA1, nil)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return fmt.Errorf("is there a network? %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", req.URL, resp.Status)
	}
	f, err := os.Create(filepath.Join(dir, e.Package+".deb"))
	if err != nil {
		return err
	}
	n, err := io.Copy(f, io.LimitReader(resp.Body, e.Size+1))
	if err == nil && n != e.Size {
		err = fmt.Errorf("%s: %d bytes or more, want %d", req.URL, n, e.Size)
	}
	return errors.Join(err, f.Close())
}
