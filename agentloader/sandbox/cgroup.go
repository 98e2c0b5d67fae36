package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Defaults of Limits.
const (
	defaultMemory    = 512 << 20
	defaultCPU       = 1000
	defaultProcesses = 128
	defaultIO        = 256 << 20 // bytes a second
)

// The most that there is of processes and threads, whatever a bundle asks for: without numbers left for
// new threads the platform's own processes end, and with them the machine. The kernel has 32768 of them
// at least (proc(5), pid_max).
const (
	maxProcesses = 2048  // of one agent
	maxTasks     = 16384 // of all sandboxes
)

// What a sandbox needs beside its agent: the sentry's own memory and threads, and systrap's stubs
// (measured idle: 25 MiB and about 30 tasks).
const (
	sentryMemory = 96 << 20
	sentryTasks  = 256
	cpuPeriod    = 100_000 // microseconds (kernel, cgroup-v2.rst, cpu.max)
)

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		v   *int64
		def int64
	}{{&l.MemoryBytes, defaultMemory}, {&l.CPUMillis, defaultCPU}, {&l.Processes, defaultProcesses}, {&l.IOBytes, defaultIO}} {
		if *f.v <= 0 {
			*f.v = f.def
		}
	}
	l.Processes = min(l.Processes, maxProcesses)
	return l
}

// setting is one value of a cgroup v2 file.
type setting struct{ file, value string }

// settings are the limits as the kernel takes them (cgroup-v2.rst). Outside its root the sentry's
// tasks are what the kernel counts, several to each of the agent's.
func (s Spec) settings() []setting {
	l := s.Limits.withDefaults()
	out := []setting{
		{"memory.max", strconv.FormatInt(l.MemoryBytes+sentryMemory, 10)},
		{"memory.oom.group", "1"},
		{"cpu.max", fmt.Sprintf("%d %d", l.CPUMillis*cpuPeriod/1000, cpuPeriod)},
		{"pids.max", strconv.FormatInt(sentryTasks+4*l.Processes, 10)},
	}
	// What lies in memory has no device. Writes have none either: an agent's go to memory.
	for _, f := range s.Files {
		if set := (setting{"io.max", fmt.Sprintf("%s rbps=%d", f.Device, l.IOBytes)}); f.Device != "" && !slices.Contains(out, set) {
			out = append(out, set)
		}
	}
	return out
}

// prepareCgroup makes the directory and hands the controllers down to it and its children.
func prepareCgroup(dir string) error {
	const controllers = "+memory +cpu +pids +io"
	if err := writeFile(filepath.Join(filepath.Dir(dir), "cgroup.subtree_control"), controllers); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := writeFile(filepath.Join(dir, "pids.max"), strconv.Itoa(maxTasks)); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, "cgroup.subtree_control"), controllers)
}

// makeCgroup makes a sandbox's cgroup and returns its open directory.
func (r *Runner) makeCgroup(s *Sandbox) (*os.File, error) {
	dir := filepath.Join(r.cfg.Cgroup, s.box)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	s.cgroup = dir
	for _, set := range s.spec.settings() {
		if err := writeFile(filepath.Join(dir, set.file), set.value); err != nil {
			return nil, fmt.Errorf("cgroup: %w", err)
		}
	}
	// Swap counts as memory where there is swap at all.
	if err := writeFile(filepath.Join(dir, "memory.swap.max"), "0"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	return os.Open(dir)
}

// removeCgroup kills what is left in a cgroup and removes it.
func removeCgroup(dir string) error {
	if dir == "" {
		return nil
	}
	if err := writeFile(filepath.Join(dir, "cgroup.kill"), "1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cgroup: %w", err)
	}
	// Killed processes leave the cgroup only when they have been reaped.
	var err error
	for range 50 {
		if err = os.Remove(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("cgroup: %w", err)
}

func writeFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strings.TrimSpace(text))
	return errors.Join(err, f.Close())
}
