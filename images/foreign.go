package images

import (
	"context"
	_ "embed"
	"errors"
	"path/filepath"

	"omega/internal/cache"
	"omega/internal/lock"
)

// foreignFile pins programs of others that tests hold omega against. No build
// runs them and no image has anything of them.
//
//go:embed foreign.json
var foreignFile []byte

// ForeignTools are the names of those programs.
func ForeignTools() []string { return []string{"cosign", "crane", "oras"} }

// Foreign returns the path of one of them, fetched once and kept unpacked beside
// the system's own programs.
func Foreign(ctx context.Context, c *cache.Cache, r Report, name string) (string, error) {
	f, err := lock.Parse(foreignFile)
	if err != nil {
		return "", err
	}
	s, err := NewStore(c, r)
	if err != nil {
		return "", err
	}
	s.lock = f
	return s.File(ctx, name, filepath.Join("usr/bin", name))
}

// FetchForeign fetches all of them, and the engine that a test runs.
func FetchForeign(ctx context.Context, c *cache.Cache, r Report) error {
	var missing error
	for _, name := range ForeignTools() {
		_, err := Foreign(ctx, c, r, name)
		missing = errors.Join(missing, err)
	}
	_, err := llamaTree(ctx, c, r)
	missing = errors.Join(missing, err)
	return missing
}
