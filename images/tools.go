package images

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// tools are the programs that a build runs, and the Debian package of each.
var tools = []struct{ program, pkg string }{
	{"apt-get", "apt"},
	{"bc", "bc"},
	{"bison", "bison"},
	{"dpkg-deb", "dpkg"},
	{"flex", "flex"},
	{"gcc", "gcc"},
	{"go", "golang"},
	{"ld", "binutils"},
	{"make", "make"},
	{"patch", "patch"},
	{"perl", "perl"},
	{"tar", "tar"},
	{"xz", "xz-utils"},
	{"zstd", "zstd"},
}

// headers are the C headers that the kernel's own build tools include.
var headers = []struct{ path, pkg string }{
	{"libelf.h", "libelf-dev"},
}

// checkTools names every missing package at once.
func checkTools() error {
	var missing []string
	for _, t := range tools {
		if _, err := exec.LookPath(t.program); err != nil {
			missing = append(missing, t.pkg)
		}
	}
	for _, h := range headers {
		if _, err := os.Stat("/usr/include/" + h.path); err != nil {
			missing = append(missing, h.pkg)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("the build needs programs that are not installed: apt-get install %s", strings.Join(missing, " "))
	}
	return nil
}

// toolVersions is the first line of what each tool that leaves a trace in the
// kernel says of itself. It is part of the kernel's cache key.
func toolVersions(ctx context.Context) ([]byte, error) {
	var out bytes.Buffer
	for _, t := range []string{"gcc", "ld", "make", "flex", "bison", "zstd"} {
		text, err := exec.CommandContext(ctx, t, "--version").Output()
		if err != nil {
			return nil, fmt.Errorf("asking %s for its version: %w", t, err)
		}
		line, _, _ := bytes.Cut(text, []byte("\n"))
		fmt.Fprintf(&out, "%s: %s\n", t, line)
	}
	return out.Bytes(), nil
}

// A job is one program run.
type job struct {
	dir  string
	env  []string // complete; nil is the caller's
	line func(string)
	args []string
}

// run runs a program, ends its whole process group when ctx ends, and puts the
// end of what it said into the error.
func run(ctx context.Context, j job) error {
	cmd := exec.CommandContext(ctx, j.args[0], j.args[1:]...)
	cmd.Dir, cmd.Env = j.dir, j.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	said := &tail{line: j.line}
	cmd.Stdout, cmd.Stderr = said, said
	err := cmd.Run()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case said.has("No space left on device"):
		return fmt.Errorf("%s: no space left on the disk: %w", j.args[0], syscall.ENOSPC)
	}
	return fmt.Errorf("%s: %w\n%s", j.args[0], err, said.text())
}

// tailLines is how much of a failed program's output an error shows.
const tailLines = 20

// A tail keeps the last lines of a program's output.
type tail struct {
	line  func(string)
	part  []byte
	lines []string
}

func (t *tail) Write(p []byte) (int, error) {
	t.part = append(t.part, p...)
	for {
		line, rest, ok := bytes.Cut(t.part, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		if t.line != nil {
			t.line(string(line))
		}
		t.lines = append(t.lines, string(line))
		t.lines = t.lines[max(0, len(t.lines)-tailLines):]
		t.part = append([]byte(nil), rest...)
	}
}

func (t *tail) text() string {
	return strings.Join(append(t.lines, string(t.part)), "\n")
}

func (t *tail) has(s string) bool { return strings.Contains(t.text(), s) }

// needSpace refuses to begin what would fill the disk that dir is on.
func needSpace(dir string, bytes uint64) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return fmt.Errorf("disk space: %w", err)
	}
	if free := st.Bavail * uint64(st.Bsize); free < bytes {
		return fmt.Errorf("disk space: %s has %d MiB left, the build needs %d MiB", dir, free>>20, bytes>>20)
	}
	return nil
}
