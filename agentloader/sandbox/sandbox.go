// Package sandbox runs agents in gVisor: one runsc sandbox for each instance, with an EROFS image as
// its root, no network, and one passed descriptor to the gateway as its only way out.
//
// It trusts its caller: images and commands have been verified before. It does not decide who may run.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Config says where a Runner finds and keeps things.
type Config struct {
	Runsc string // the runsc binary
	Dir   string // state and runtime bundles; a tmpfs
	// Cgroup is a cgroup v2 directory that belongs to the Runner, made if missing. Empty means no
	// limits: only for machines that have no cgroup v2, and Limited says so.
	Cgroup string
	Log    *slog.Logger
}

// Limits bound one sandbox. Zero fields get the defaults.
type Limits struct {
	MemoryBytes int64
	CPUMillis   int64 // of a thousand for each core
	Processes   int64 // processes and threads
}

// Spec is one agent to run.
type Spec struct {
	Instance string
	Image    string   // EROFS image file
	Command  []string // run by the shim, which the image holds
	Env      []string // from Env
	Dir      string   // working directory; "/" if empty
	Limits   Limits
	Link     *os.File // stream socket to the gateway; the caller keeps and closes its copy
	Inbound  *os.File // the same, for the gateway's requests to the agent; nil: it takes none
	Port     int      // where the agent serves them
}

// Exit is how a sandbox ended.
type Exit struct {
	Code      int
	LastLines []string // the last of what the agent wrote to stdout and stderr
}

// Runner starts sandboxes.
type Runner struct {
	cfg Config

	mu      sync.Mutex
	running map[string]bool // by instance
}

// ErrInstance reports an instance name that is malformed or in use.
var ErrInstance = errors.New("instance name is malformed or in use")

var instancePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// New prepares the directories and the cgroup.
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
	return &Runner{cfg: cfg, running: map[string]bool{}}, nil
}

func (c Config) state() string                 { return filepath.Join(c.Dir, "state") }
func (c Config) bundle(instance string) string { return filepath.Join(c.Dir, "bundles", instance) }

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

// Sandbox is one running agent.
type Sandbox struct {
	runner *Runner
	spec   Spec
	cgroup string
	cmd    *exec.Cmd
	lines  *lastLines
	done   chan struct{}
	exit   Exit
	err    error
}

// linkFD and inboundFD are the descriptors inside the sandbox; hostFD is the first one's number in runsc
// (the first of ExtraFiles).
const (
	linkFD    = 9
	inboundFD = 10
	hostFD    = 3
)

// Start starts an agent and returns as soon as runsc runs. The sandbox outlives ctx; end it with Stop.
func (r *Runner) Start(ctx context.Context, spec Spec) (*Sandbox, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := r.claim(spec); err != nil {
		return nil, err
	}
	s := &Sandbox{runner: r, spec: spec, lines: newLastLines(), done: make(chan struct{})}
	if err := s.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting %s: %w", spec.Instance, err), s.clean())
	}
	go s.wait()
	return s, nil
}

// id is the sandbox's name in runsc, which also takes the beginning of a name for the whole. It ends in
// what no instance name holds, so that none is the beginning of another.
func (s Spec) id() string { return s.Instance + "+" }

// passed are the descriptors that a sandbox gets, and how runsc is told of them.
func (s Spec) passed() (args []string, files []*os.File) {
	args, files = []string{"--pass-fd", fmt.Sprintf("%d:%d", hostFD, linkFD)}, []*os.File{s.Link}
	if s.Inbound != nil {
		args, files = append(args, "--pass-fd", fmt.Sprintf("%d:%d", hostFD+1, inboundFD)), append(files, s.Inbound)
	}
	return args, files
}

func (r *Runner) claim(spec Spec) error {
	if spec.Link == nil || spec.Image == "" || len(spec.Command) == 0 {
		return errors.New("sandbox needs a link, an image and a command")
	}
	if (spec.Inbound == nil) != (spec.Port == 0) {
		return errors.New("sandbox needs both or none of an inbound link and a port")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !instancePattern.MatchString(spec.Instance) || r.running[spec.Instance] {
		return fmt.Errorf("%w: %.80q", ErrInstance, spec.Instance)
	}
	r.running[spec.Instance] = true
	return nil
}

func (s *Sandbox) start() error {
	cfg := s.runner.cfg
	dir := cfg.bundle(s.spec.Instance)
	if err := writeBundle(dir, s.spec); err != nil {
		return err
	}
	args, files := s.spec.passed()
	args = append([]string{"--root", cfg.state(), "--platform=systrap", "--network=none",
		"--host-uds=none", "--host-fifo=none", "--overlay2=none", "--ignore-cgroups",
		"run", "--bundle", dir}, args...)
	s.cmd = exec.Command(cfg.Runsc, append(args, s.spec.id())...)
	s.cmd.ExtraFiles = files
	s.cmd.Env = []string{"PATH=/usr/bin:/bin"}
	s.cmd.Stdout, s.cmd.Stderr = s.lines, s.lines
	s.cmd.WaitDelay = 2 * time.Second
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if s.runner.Limited() {
		group, err := s.runner.makeCgroup(s)
		if err != nil {
			return err
		}
		defer group.Close()
		s.cmd.SysProcAttr.UseCgroupFD = true
		s.cmd.SysProcAttr.CgroupFD = int(group.Fd())
	}
	return s.cmd.Start()
}

// wait collects the exit and clears up, once.
func (s *Sandbox) wait() {
	defer close(s.done)
	err := s.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		s.err = fmt.Errorf("waiting for %s: %w", s.spec.Instance, err)
	}
	s.exit = Exit{Code: exitCode(s.cmd.ProcessState), LastLines: s.lines.Lines()}
	if err := s.clean(); err != nil {
		s.runner.cfg.Log.Warn("clearing up after a sandbox", "instance", s.spec.Instance, "error", err)
	}
}

func exitCode(p *os.ProcessState) int {
	if w, ok := p.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return p.ExitCode()
}

// Wait returns how the sandbox ended, once it has and everything of it is cleared away.
func (s *Sandbox) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-s.done:
		return s.exit, s.err
	case <-ctx.Done():
		return Exit{}, ctx.Err()
	}
}

// Stop asks the agent to end and kills it after grace. It returns when the sandbox is gone.
func (s *Sandbox) Stop(ctx context.Context, grace time.Duration) error {
	deadline, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	for asked := false; ; {
		// runsc hands on no signal of its own, and refuses to signal an agent that has not started yet.
		if !asked {
			asked = s.runsc(deadline, "kill", s.spec.id(), "TERM") == nil
		}
		select {
		case <-s.done:
			return nil
		case <-deadline.Done():
			return s.kill()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// runsc runs one verb of runsc on the sandbox.
func (s *Sandbox) runsc(ctx context.Context, args ...string) error {
	args = append([]string{"--root", s.runner.cfg.state()}, args...)
	out, err := exec.CommandContext(ctx, s.runner.cfg.Runsc, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("runsc %s: %w: %.300q", args[2], err, out)
	}
	return nil
}

// kill ends every process of the sandbox. runsc itself takes the sentry with it when it dies.
func (s *Sandbox) kill() error {
	if s.cgroup != "" {
		if err := writeFile(filepath.Join(s.cgroup, "cgroup.kill"), "1"); err != nil {
			return fmt.Errorf("killing %s: %w", s.spec.Instance, err)
		}
	}
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing %s: %w", s.spec.Instance, err)
	}
	<-s.done
	return nil
}

// clean removes what runsc and Start made, and frees the instance name.
func (s *Sandbox) clean() error {
	cfg := s.runner.cfg
	err := errors.Join(s.deleteState(), os.RemoveAll(cfg.bundle(s.spec.Instance)), removeCgroup(s.cgroup))
	s.runner.mu.Lock()
	defer s.runner.mu.Unlock()
	delete(s.runner.running, s.spec.Instance)
	return err
}

// deleteState lets runsc forget a sandbox that did not end by itself.
func (s *Sandbox) deleteState() error {
	left, err := filepath.Glob(filepath.Join(s.runner.cfg.state(), s.spec.id()+"_*"))
	if err != nil || len(left) == 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return s.runsc(ctx, "delete", "--force", s.spec.id())
}
