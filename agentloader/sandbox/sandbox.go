// Package sandbox runs agents in gVisor: one runsc sandbox for each instance, with an EROFS image as
// its root, no network, and one passed descriptor to the gateway as its only way out. A sandbox can be
// started ahead of its agent and wait in a pool.
//
// It trusts its caller: images and commands have been verified before. It does not decide who may run.
package sandbox

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"omega/agentloader/bundle"
)

// Config says where a Runner finds and keeps things.
type Config struct {
	Runsc string // the runsc binary
	Dir   string // state and runtime bundles; a tmpfs
	// Cgroup is a cgroup v2 directory that belongs to the Runner, made if missing. Empty means no
	// limits: only for machines that have no cgroup v2, and Limited says so.
	Cgroup string
	// Stage is the program that confines a native sandbox, with its arguments; it reads a Plan. Empty: there
	// are none.
	Stage []string
	Log   *slog.Logger
}

// Limits bound one sandbox. Zero fields get the defaults.
type Limits struct {
	MemoryBytes int64
	CPUMillis   int64 // of a thousand for each core
	Processes   int64 // processes and threads
	IOBytes     int64 // a second, read from each disk that has files of the agent
}

// Spec is one agent to run.
type Spec struct {
	Instance string   // known when the gate opens; Prepare does without
	Hostname string   // what the agent sees; Instance if empty
	Image    string   // EROFS image file
	Command  []string // run by the shim, which the image holds
	Env      []string // from Env
	Dir      string   // working directory; "/" if empty
	Limits   Limits
	Link     *os.File // stream socket to the gateway; the caller keeps and closes its copy
	Inbound  *os.File // the same, for the gateway's requests to the agent; nil: it takes none
	Port     int      // where the agent serves them
	Files    []File   // that it can read beside its image
	Stdio    bool     // its standard input and output take the place of a port
	Native   *Native  // nil: gVisor
}

// Exit is how a sandbox ended.
type Exit struct {
	Code      int
	LastLines []string // the last of what the agent wrote to stdout and stderr
}

// Runner starts sandboxes.
type Runner struct {
	cfg Config

	mu      sync.Mutex      // guards what follows
	running map[string]bool // by instance
	boxes   int             // sandboxes made so far
}

// ErrInstance reports an instance name that is malformed or in use.
var ErrInstance = errors.New("instance name is malformed or in use")

// New prepares the directories and the cgroup. It makes this process the one that
// orphans below it are handed to: a sandbox outlives the runsc that made it, and
// its end is told to its parent only.
func New(cfg Config) (*Runner, error) {
	for _, d := range []string{cfg.state(), cfg.bundle("")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("preparing sandboxes: %w", err)
		}
	}
	if cfg.Cgroup != "" {
		if err := prepareCgroup(cfg.Cgroup); err != nil {
			return nil, fmt.Errorf("preparing cgroup: %w", err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("adopting sandboxes: %w", err)
	}
	return &Runner{cfg: cfg, running: map[string]bool{}}, nil
}

func (c Config) state() string            { return filepath.Join(c.Dir, "state") }
func (c Config) bundle(box string) string { return filepath.Join(c.Dir, "bundles", box) }

// Limited reports whether memory, CPU and process limits are enforced.
func (r *Runner) Limited() bool { return r.cfg.Cgroup != "" }

// Close unmounts what runsc leaves behind. All sandboxes must have ended.
func (r *Runner) Close() error {
	// runsc keeps an empty network namespace bind-mounted here.
	err := unix.Unmount(filepath.Join(r.cfg.state(), "null-netns"), unix.MNT_DETACH)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		err = nil
	}
	if err == nil && r.Limited() {
		err = os.Remove(r.cfg.Cgroup)
	}
	return err
}

// claim takes an instance name.
func (r *Runner) claim(instance string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !bundle.ValidInstance(instance) || r.running[instance] {
		return fmt.Errorf("%w: %.80q", ErrInstance, instance)
	}
	r.running[instance] = true
	return nil
}

func (r *Runner) free(instance string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.running, instance)
}

// nextBox is a new sandbox's name for runsc and the kernel. runsc also takes the beginning of a name
// for the whole; it ends in what no name holds, so that none is the beginning of another.
func (r *Runner) nextBox() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.boxes++
	return fmt.Sprintf("box%d+", r.boxes)
}
