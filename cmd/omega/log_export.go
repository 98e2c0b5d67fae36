package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"omega/policy/provenance"
)

// runLogExport is `omega log export DIR|URL|DISK --out DIR`: a static copy of a log
// that any tlog-tiles client can read, with fresh evidence beside it.
func runLogExport(ctx context.Context, e *env, args []string) error {
	set := e.flags("log")
	out := set.String("out", "", "`folder` that does not exist yet")
	var o verifyOptions
	o.releaseFlags(set)
	from, err := oneArgument(set, args)
	if err != nil {
		return err
	}
	if *out == "" {
		return errors.New("omega log export: --out DIR is needed")
	}
	by, err := o.caller()
	if err != nil {
		return err
	}
	if by.token != "" {
		if _, err := o.logPlatform(ctx, e, from, &by); err != nil {
			return err
		}
	}
	size, err := exportLog(ctx, e, from, *out, by)
	if err != nil {
		return logExit(err)
	}
	e.sayf("%d leaves in %s; `omega log verify %s` proves them", size, *out, *out)
	return nil
}

// exportLog copies a log and, from a platform, its evidence. A copy that breaks
// off leaves no folder of that name behind.
func exportLog(ctx context.Context, e *env, from, out string, by caller) (uint64, error) {
	src, err := logSource(ctx, from, "", by)
	if err != nil {
		return 0, err
	}
	if _, err := os.Stat(out); err == nil {
		return 0, fmt.Errorf("%s exists already", out)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(filepath.Clean(out)), ".omega-log-*")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(tmp)
	// Before the log, so that the log must continue the evidence's checkpoint.
	if err := copyEvidence(ctx, from, tmp, by); err != nil {
		return 0, err
	}
	size, err := copyLog(ctx, e, src, tmp)
	if err != nil {
		return 0, err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return 0, err
	}
	return size, os.Rename(tmp, out)
}

func copyLog(ctx context.Context, e *env, src provenance.Source, dir string) (uint64, error) {
	signed, err := src.Read(ctx, "checkpoint")
	if err != nil {
		return 0, fmt.Errorf("checkpoint: %w", err)
	}
	c, err := provenance.UnverifiedCheckpoint(signed)
	if err != nil {
		return 0, err
	}
	if c.Size > provenance.MaxSize {
		return 0, fmt.Errorf("%w: %d leaves", provenance.ErrFraming, c.Size)
	}
	bar := e.progress("copying the log")
	defer bar.Done()
	tiles := provenance.TilesOf(c.Size)
	for i, t := range tiles {
		b, err := src.Read(ctx, t.Path())
		if err != nil {
			return 0, fmt.Errorf("%s: %w", t.Path(), err)
		}
		if err := writeUnder(dir, t.Path(), b); err != nil {
			return 0, err
		}
		bar.Set(int64(i+1), int64(len(tiles)))
	}
	return c.Size, writeUnder(dir, "checkpoint", signed)
}

// copyEvidence puts a platform's evidence beside its log. Other places that
// serve a log have none.
func copyEvidence(ctx context.Context, from, dir string, by caller) error {
	base, err := logURL(from)
	if err != nil {
		return err
	}
	if base == nil {
		beside := besideLog(from)
		if beside == "" {
			return nil
		}
		b, err := os.ReadFile(beside)
		if err != nil {
			return err
		}
		return writeUnder(dir, evidenceFile, b)
	}
	b, err := fetchEvidence(ctx, base, by)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("evidence: %w", err)
	}
	return writeUnder(dir, evidenceFile, b)
}

// writeUnder writes a file of the log. Paths come from provenance.Tile, never
// from the server.
func writeUnder(dir, path string, b []byte) error {
	name := filepath.Join(dir, filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, b, 0o644)
}
