package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"omega/agentloader/bundle"
	"omega/agentloader/sandbox"
	"omega/init/internal/blockfile"
	"omega/policy/provenance"
)

// filesDir is where files that lie on disks are mounted.
const filesDir = sandboxDir + "/files"

// corruptionEvery is how often disks that are in use are asked for corrupted
// blocks. The agent has its I/O error at once; this is for the log.
const corruptionEvery = 2 * time.Second

// fileDirs are the folders in which agents find the kinds of files.
var fileDirs = map[string]string{"model": "/models", "adapter": "/adapters", "data": "/data"}

// fileForm is the fetcher's name of a file: verity root and size.
var fileForm = regexp.MustCompile(`^[0-9a-f]{64}-[0-9]{1,13}\.file$`)

// nameForm is a file's name inside of the sandbox.
var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// diskFiles are the files on disks that running agents read. The zero value is
// ready.
type diskFiles struct {
	mu   sync.Mutex // guards what follows
	open map[string]*diskFile
}

// diskFile is a file with those who read it.
type diskFile struct {
	*blockfile.File
	what  string
	users []string // instances
	bad   bool     // and in the log
}

// disk answers whether a disk holds a file.
func (s *sandboxd) disk(_ context.Context, req diskRequest) (diskReply, error) {
	name, err := blockfile.Find(os.DirFS("/sys"), "/dev", req.Root, req.Size)
	return diskReply{Found: name != ""}, err
}

// files are an agent's files as its sandbox takes them. Those on disks are
// opened for the instance, once however often it is started.
func (s *sandboxd) files(req runRequest) ([]sandbox.File, error) {
	var out []sandbox.File
	for _, f := range req.Files {
		dir := fileDirs[f.Kind]
		if dir == "" || !nameForm.MatchString(f.Name) || f.File != "" && !fileForm.MatchString(f.File) {
			return nil, fmt.Errorf("%.20q %.80q: no such kind of file, or a name of another form", f.Kind, f.Name)
		}
		if req.Inference != nil && f.Kind != bundle.KindData {
			continue // its engine's, and not the agent's to read
		}
		file := sandbox.File{Path: dir + "/" + f.Name, Source: filepath.Join(imageDir, f.File)}
		if f.File == "" {
			var err error
			if file.Source, file.Device, err = s.disks.use(f, req.Instance); err != nil {
				return nil, fmt.Errorf("%s %q: %w", f.Kind, f.Name, err)
			}
		}
		out = append(out, file)
	}
	return out, nil
}

// use opens the file for an instance and returns its path and its device's number.
func (d *diskFiles) use(f runFile, instance string) (path, device string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := fmt.Sprintf("%x-%d", f.Root[:], f.Size)
	now := d.open[key]
	if now == nil {
		name, err := blockfile.Find(os.DirFS("/sys"), "/dev", f.Root, f.Size)
		if err != nil {
			return "", "", err
		}
		if name == "" {
			return "", "", errors.New("the disk that held it is gone")
		}
		file, err := blockfile.Open(filepath.Join("/dev", name), f.Root, f.Size, filesDir)
		if err != nil {
			return "", "", err
		}
		now = &diskFile{File: file, what: f.Kind + "/" + f.Name}
		if d.open == nil {
			d.open = map[string]*diskFile{}
		}
		d.open[key] = now
	}
	if !slices.Contains(now.users, instance) {
		now.users = append(now.users, instance)
	}
	return now.Path, now.Device, nil
}

// leave closes what only this instance read.
func (d *diskFiles) leave(instance string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	for key, f := range d.open {
		f.users = slices.DeleteFunc(f.users, func(u string) bool { return u == instance })
		if len(f.users) == 0 {
			delete(d.open, key)
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// corrupted are the files in use of which a block was found corrupted, each
// once.
func (d *diskFiles) corrupted() (found []diskFile, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.open {
		if f.bad {
			continue
		}
		bad, e := f.Corrupted()
		err = errors.Join(err, e)
		if f.bad = bad; bad {
			found = append(found, diskFile{what: f.what, users: slices.Clone(f.users)})
		}
	}
	return found, err
}

// checkDisks enters corrupted disks into the log, for each agent that reads one.
func (s *sandboxd) checkDisks(ctx context.Context) {
	found, err := s.disks.corrupted()
	if err != nil {
		s.c.log.Error("asking the disks", "error", err)
	}
	for _, f := range found {
		for _, instance := range f.users {
			e := provenance.Entry{Kind: provenance.KindRefusal, Agent: instance, Action: "read", Resource: f.what, Decision: provenance.Deny,
				Reasons: []string{"a block of the disk does not belong to the file's verity root; reading it failed"}}
			if err := s.record(ctx, e); err != nil {
				s.c.log.Error("recording a corrupted disk", "instance", instance, "error", err)
			}
		}
	}
}

// watchDisks checks the disks for as long as the machine runs.
func (s *sandboxd) watchDisks(ctx context.Context) {
	for {
		select {
		case <-time.After(corruptionEvery):
			s.checkDisks(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// leaveDisks gives up an ended agent's files. What it met in them is in the log
// before.
func (s *sandboxd) leaveDisks(ctx context.Context, instance string) {
	s.checkDisks(ctx)
	if err := s.disks.leave(instance); err != nil {
		s.c.log.Error("giving up an agent's disks", "instance", instance, "error", err)
	}
}
