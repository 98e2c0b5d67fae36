package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// budgetPlatform is what the platform itself may take in the guest without agents.
const budgetPlatform = 128 << 20 // issue 7

// benchPlatformMemory boots an image that has a shell inside, without agents, and
// reads there what the processes and the files in memory take. The shell's own
// files are not the platform's and are left out; its process is counted.
func benchPlatformMemory(ctx context.Context, e *env) (rows []benchRow, err error) {
	step := e.progress("booting without agents")
	defer step.Done()
	source, err := sourceRoot()
	if err != nil {
		return nil, err
	}
	built, err := build(ctx, e, buildOptions{Profile: "debug", Out: filepath.Join(source, "build", "debug")})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	keys, typed := io.Pipe()
	defer typed.Close()
	var screen consoleText
	machine, err := startVM(ctx, e, bootOptions{Artifacts: built.Dir, OnLine: screen.add, Input: keys})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, machine.Stop(context.WithoutCancel(ctx))) }()
	if err := screen.wait(ctx, "ready "); err != nil {
		return nil, err
	}
	for _, line := range []string{"cat /proc/meminfo", "ls -l /bin", "echo that is all"} {
		if !sleepFor(ctx, 3*time.Second) { // a serial line loses what is typed too fast
			return nil, ctx.Err()
		}
		if _, err := io.WriteString(typed, line+"\n"); err != nil {
			return nil, err
		}
	}
	if err := screen.wait(ctx, "that is all"); err != nil {
		return nil, err
	}
	taken, err := platformMemory(screen.all())
	if err != nil {
		return nil, err
	}
	return []benchRow{benchRow{Name: "agents/platform-memory", Ours: float64(taken), Unit: "bytes"}.versus("budget", budgetPlatform)}, nil
}

// platformMemory adds up what the console shows: anonymous memory and files in
// memory (proc_meminfo(5)), without the files that only this image has.
func platformMemory(lines []string) (int64, error) {
	var sum int64
	seen := map[string]bool{}
	for _, line := range lines {
		f := strings.Fields(strings.TrimSpace(line))
		switch {
		case len(f) == 3 && (f[0] == "AnonPages:" || f[0] == "Shmem:") && !seen[f[0]]:
			kib, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("meminfo: %q", line)
			}
			sum, seen[f[0]] = sum+kib<<10, true
		case len(f) > 4 && strings.HasPrefix(f[0], "-rwx"):
			name := f[len(f)-1]
			for _, word := range f[1:] {
				size, err := strconv.ParseInt(word, 10, 64)
				if err == nil && size > 1<<16 && name != "runsc" && name != "shim" && !seen[name] {
					sum, seen[name] = sum-size, true
				}
			}
		}
	}
	if !seen["AnonPages:"] || !seen["Shmem:"] || !seen["sh"] {
		return 0, errors.New("the guest's shell did not say how much memory is taken")
	}
	return sum, nil
}

// consoleText keeps a console's lines.
type consoleText struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (c *consoleText) add(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines = append(c.lines, strings.TrimRight(line, "\r"))
}

func (c *consoleText) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.lines...)
}

// wait returns once a line holds the words, as a line's beginning after the
// console's own marks: what was typed shows too, behind a prompt.
func (c *consoleText) wait(ctx context.Context, words string) error {
	for {
		for _, line := range c.all() {
			if strings.Contains(line, words) && !strings.Contains(line, "echo") {
				return nil
			}
		}
		if !sleepFor(ctx, 100*time.Millisecond) {
			return fmt.Errorf("the console never said %q: %w", words, ctx.Err())
		}
	}
}
