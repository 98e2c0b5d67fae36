package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// wait collects the exit and clears up, once.
func (s *Sandbox) wait() {
	defer close(s.done)
	s.exit.Code, s.err = s.outcome()
	if err := s.clean(); err != nil {
		s.runner.cfg.Log.Warn("clearing up after a sandbox", "box", s.box, "error", err)
	}
	select {
	case <-s.heard:
	case <-time.After(2 * time.Second): // somebody else holds the pipe
	}
	_ = s.output.Close()
	s.exit.LastLines = s.lines.Lines()
}

// outcome waits for runsc, then for the sentry, whose exit code is the agent's.
func (s *Sandbox) outcome() (int, error) {
	if s.spec.Native != nil {
		return s.nativeOutcome()
	}
	err := s.runsc.Wait()
	p, perr := s.adopt()
	s.mu.Lock()
	s.sentry = p
	s.mu.Unlock()
	close(s.booted)
	switch {
	case p == nil && err != nil: // runsc's words are among the lines
		return exitCode(s.runsc.ProcessState), nil
	case p == nil:
		return -1, fmt.Errorf("finding the sentry of %s: %w", s.box, perr)
	}
	state, err := p.Wait()
	if err != nil {
		return -1, fmt.Errorf("waiting for %s: %w", s.box, err)
	}
	return exitCode(state), nil
}

// adopt finds the sentry, which is this process's child since runsc has ended.
func (s *Sandbox) adopt() (*os.Process, error) {
	b, err := os.ReadFile(s.pidFile())
	if err != nil {
		return nil, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, err
	}
	return os.FindProcess(pid)
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
		// runsc refuses to signal an agent that has not started yet.
		if !asked {
			asked = s.signal(deadline, "TERM") == nil
		}
		select {
		case <-s.done:
			return nil
		case <-deadline.Done():
			return s.Kill()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// signal has runsc hand a signal to the agent.
func (s *Sandbox) signal(ctx context.Context, name string) error {
	if s.spec.Native != nil { // its first process is the shim, which hands it on
		return s.runsc.Process.Signal(syscall.SIGTERM)
	}
	out, err := exec.CommandContext(ctx, s.runner.cfg.Runsc, "--root", s.runner.cfg.state(), "kill", s.box, name).CombinedOutput()
	if err != nil {
		return fmt.Errorf("signalling %s: %w: %.300q", s.box, err, out)
	}
	return nil
}

// Kill ends every process of the sandbox and returns when it is gone.
func (s *Sandbox) Kill() error {
	// runsc is let finish: killed halfway, it leaves a sentry that nobody can name.
	select {
	case <-s.booted:
	case <-time.After(bootTimeout):
		_ = s.runsc.Process.Kill()
	}
	if s.cgroup != "" {
		if err := writeFile(filepath.Join(s.cgroup, "cgroup.kill"), "1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("killing %s: %w", s.box, err)
		}
	}
	s.mu.Lock()
	p := s.sentry
	s.mu.Unlock()
	if p != nil {
		if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("killing %s: %w", s.box, err)
		}
	}
	<-s.done
	return nil
}

// clean removes what runsc and boot made, and frees the instance name.
func (s *Sandbox) clean() error {
	cfg := s.runner.cfg
	err := errors.Join(s.deleteState(), os.RemoveAll(cfg.bundle(s.box)), removeCgroup(s.cgroup))
	if s.gate != nil {
		err = errors.Join(err, s.gate.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.instance != "" {
		s.runner.free(s.instance)
	}
	return err
}

// deleteState forgets a sandbox that has ended: all that runsc keeps of one without a gofer and without
// cgroups of its own are these files (gVisor, runsc/container/state_file.go, sandbox.go).
func (s *Sandbox) deleteState() error {
	var all error
	for _, name := range []string{s.box + "_sandbox:" + s.box + ".state", s.box + "_sandbox:" + s.box + ".lock", "runsc-" + s.box + ".sock"} {
		if err := os.Remove(filepath.Join(s.runner.cfg.state(), name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = errors.Join(all, err)
		}
	}
	return all
}
