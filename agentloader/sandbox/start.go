package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Sandbox is one sandbox: waiting at its gate, or with its agent running.
type Sandbox struct {
	runner *Runner
	spec   Spec
	box    string
	cgroup string
	gate   *os.File // held as long as the sandbox is wanted
	runsc  *exec.Cmd
	lines  *lastLines
	output *os.File // what the agent says, until its end
	heard  chan struct{}
	booted chan struct{}
	done   chan struct{}
	exit   Exit
	err    error

	mu       sync.Mutex // guards what follows
	instance string     // once the gate is open
	sentry   *os.Process
}

// The descriptors inside of the sandbox, and the first one's number in runsc (the first of ExtraFiles).
const (
	linkFD    = 9
	inboundFD = 10
	gateFD    = 11
	hostFD    = 3
)

// bootTimeout is how long runsc may take before a sandbox is killed without it.
const bootTimeout = 30 * time.Second

// Start starts an agent and returns as soon as runsc runs. The sandbox outlives ctx; end it with Stop.
func (r *Runner) Start(ctx context.Context, spec Spec) (*Sandbox, error) {
	if spec.Hostname == "" {
		spec.Hostname = spec.Instance
	}
	s, err := r.Prepare(ctx, spec)
	if err != nil {
		return nil, err
	}
	if err := s.Release(spec.Instance); err != nil {
		return nil, errors.Join(err, s.Kill())
	}
	return s, nil
}

// Prepare starts a sandbox in which nothing of the agent runs until Release. It returns as soon as
// runsc runs; the sandbox outlives ctx and has to be ended, wanted or not.
func (r *Runner) Prepare(ctx context.Context, spec Spec) (*Sandbox, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if spec.Link == nil || spec.Image == "" || len(spec.Command) == 0 {
		return nil, errors.New("sandbox needs a link, an image and a command")
	}
	if spec.Port != 0 && spec.Stdio || (spec.Inbound == nil) != (spec.Port == 0 && !spec.Stdio) {
		return nil, errors.New("sandbox needs both or none of an inbound link and a port")
	}
	s := &Sandbox{runner: r, spec: spec, box: r.nextBox(), lines: newLastLines(),
		heard: make(chan struct{}), booted: make(chan struct{}), done: make(chan struct{})}
	if err := s.boot(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting %s: %w", s.box, err), s.clean())
	}
	go s.wait()
	return s, nil
}

// Release opens the gate: the agent starts, as this instance.
func (s *Sandbox) Release(instance string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.instance != "" {
		return fmt.Errorf("%s runs %s already", s.box, s.instance)
	}
	if err := s.runner.claim(instance); err != nil {
		return err
	}
	s.instance = instance
	return s.say(gateOpen)
}

// Ahead lets the agent start before it has an instance: nobody answers it until Release.
func (s *Sandbox) Ahead() error { return s.say(gateAhead) }

// What goes through the gate; the shim reads it.
const (
	gateOpen  = 'o'
	gateAhead = 'a'
)

func (s *Sandbox) say(b byte) error {
	if _, err := s.gate.Write([]byte{b}); err != nil {
		return fmt.Errorf("opening the gate of %s: %w", s.box, err)
	}
	return nil
}

// Booted is closed once the sandbox stands, or cannot.
func (s *Sandbox) Booted() <-chan struct{} { return s.booted }

// Done is closed once the sandbox has ended and is cleared away.
func (s *Sandbox) Done() <-chan struct{} { return s.done }

// Output is what is kept of the agent's last lines.
func (s *Sandbox) Output() []string { return s.lines.Lines() }

// pidFile is where runsc writes the sentry's process id.
func (s *Sandbox) pidFile() string { return filepath.Join(s.runner.cfg.bundle(s.box), "pid") }

// boot starts runsc, which ends when the sandbox waits at its gate. runsc is not kept beside the
// sandbox: it would take more memory than many an agent.
func (s *Sandbox) boot() (err error) {
	cfg := s.runner.cfg
	if err := writeBundle(cfg.bundle(s.box), s.spec); err != nil {
		return err
	}
	gate, ours, err := os.Pipe()
	if err != nil {
		return err
	}
	defer gate.Close()
	s.gate = ours
	out, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer theirs.Close()
	if s.spec.Native != nil {
		s.output = out
		return s.bootNative(gate, theirs)
	}
	args, files := s.spec.passed(gate)
	args = append([]string{"--root", cfg.state(), "--platform=systrap", "--network=none",
		"--host-uds=none", "--host-fifo=none", "--overlay2=none", "--ignore-cgroups",
		"run", "--detach", "--pid-file", s.pidFile(), "--bundle", cfg.bundle(s.box)}, args...)
	s.runsc = exec.Command(cfg.Runsc, append(args, s.box)...)
	s.runsc.ExtraFiles = files
	s.runsc.Env = []string{"PATH=/usr/bin:/bin"}
	s.runsc.Stdout, s.runsc.Stderr = theirs, theirs
	s.runsc.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	s.output = out
	return s.launch()
}

// launch starts the program that makes the sandbox, inside of its cgroup, and listens to it.
func (s *Sandbox) launch() error {
	if s.runner.Limited() {
		group, err := s.runner.makeCgroup(s)
		if err != nil {
			return errors.Join(err, s.output.Close())
		}
		defer group.Close()
		s.runsc.SysProcAttr.UseCgroupFD = true
		s.runsc.SysProcAttr.CgroupFD = int(group.Fd())
	}
	if err := s.runsc.Start(); err != nil {
		return errors.Join(err, s.output.Close())
	}
	go func() {
		defer close(s.heard)
		_, _ = io.Copy(s.lines, s.output) // it ends with the last process that holds the pipe
	}()
	return nil
}

// passed are the descriptors that a sandbox gets, and how runsc is told of them.
func (s Spec) passed(gate *os.File) (args []string, files []*os.File) {
	for _, f := range []struct {
		file  *os.File
		guest int
	}{{s.Link, linkFD}, {gate, gateFD}, {s.Inbound, inboundFD}} {
		if f.file != nil {
			args = append(args, "--pass-fd", fmt.Sprintf("%d:%d", hostFD+len(files), f.guest))
			files = append(files, f.file)
		}
	}
	return args, files
}
