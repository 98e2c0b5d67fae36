package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A reproBuild is one build: where it happens and under which conditions.
type reproBuild struct {
	name      string // in words
	tree      string // the clean source tree
	keep      string // where the tree goes if somebody has to look into it; "" is where it is
	home      string
	tmp       string
	log       string
	goCache   string
	coldCache bool // goCache is ours to remove
	profile   string
	inputs    []string // further arguments of `omega build`
	goVersion string
	umask     os.FileMode
	settings  []string      // of the environment
	reverse   bool          // files are written last one first
	older     time.Duration // by how much files are older than the commit
	mapUser   bool          // otherUser instead of our own
	shift     time.Duration // by how much every program's clock is shifted
	clock     []string      // the command that shifts some programs' clock, where that cannot be done
	oneCPU    []string      // the command that leaves it one processor
}

const (
	// days is by how much clock and age of files are shifted.
	days = 400
	// otherUser is whom the second build sees itself as.
	otherUser = 4242
	// stopTime is how long a build may take to clear up when it is interrupted.
	stopTime = 30 * time.Second
	// logTail is how many lines of a failed build are shown.
	logTail = 20
)

// shared are the parts of the cache that both builds may take from the user's:
// each is found by the digest of its inputs. The initramfs is always made anew.
var shared = []string{"apt", "fetched", "kernel", "runsc"}

// out is the folder that `omega build` puts the artifacts in.
func (b *reproBuild) out() string { return filepath.Join(b.tree, "build", b.profile) }

// setUp makes the folders of b, and its cache unless that begins empty.
func (b *reproBuild) setUp(tree *committedTree, userCache string, full bool) error {
	own := filepath.Join(b.home, ".cache", "omega")
	for _, dir := range []string{own, b.tmp, b.tree, b.goCache} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("repro: %w", err)
		}
	}
	if b.shift > 0 {
		// To Go, what was compiled a moment ago is then old enough to be cleared away.
		now := fmt.Sprint(time.Now().Add(b.shift).Unix())
		if err := os.WriteFile(filepath.Join(b.goCache, "trim.txt"), []byte(now), 0o644); err != nil {
			return fmt.Errorf("repro: %w", err)
		}
	}
	for _, kind := range shared {
		if full {
			break
		}
		from := filepath.Join(userCache, kind)
		if err := errors.Join(os.MkdirAll(from, 0o755), os.Symlink(from, filepath.Join(own, kind))); err != nil {
			return fmt.Errorf("repro: %w", err)
		}
	}
	return tree.unpack(b)
}

// thin removes what nobody needs to look into a difference.
func (b *reproBuild) thin() {
	// Nothing depends on it; the trees are kept either way.
	_ = os.RemoveAll(b.tmp)
	if b.coldCache {
		_ = os.RemoveAll(b.goCache)
	}
}

// settle moves the tree to where it is kept.
func (b *reproBuild) settle() error {
	if b.keep == "" {
		return nil
	}
	// cp keeps what a tree can have: modes, times, links.
	if out, err := exec.Command("cp", "-a", "--", b.tree, b.keep).CombinedOutput(); err != nil {
		return fmt.Errorf("keeping %s: %w %s", b.tree, err, out)
	}
	b.tree, b.keep = b.keep, ""
	return nil
}

// build makes omega from the tree, and the image with that omega.
func (b *reproBuild) build(ctx context.Context, e *env, compile func(context.Context, *reproBuild) error) (time.Duration, error) {
	begin := time.Now()
	step := e.progress(b.name)
	defer step.Done()
	quit, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				step.Set(0, 0)
			}
		}
	}()
	err := compile(ctx, b)
	if err == nil {
		err = b.run(ctx, append([]string{filepath.Join(b.tree, "bin", "omega"), "build", "--profile", b.profile}, b.inputs...)...)
	}
	close(quit)
	<-stopped
	if err != nil {
		return 0, fmt.Errorf("%s: %w", b.name, err)
	}
	return time.Since(begin), nil
}

// compileOmega builds the tree's own omega, as its Makefile does.
func compileOmega(ctx context.Context, b *reproBuild) error {
	return b.run(ctx, "go", "build", "-mod=readonly", "-trimpath", "-o", filepath.Join("bin", "omega"), "./cmd/omega")
}

// run runs a program in the tree under the conditions of b. Everything that it
// started is gone when run returns.
func (b *reproBuild) run(ctx context.Context, words ...string) error {
	if _, err := os.Stat(b.tree); err != nil { // else the system says that the shell is missing
		return fmt.Errorf("repro: something removed the tree of this build: %w", err)
	}
	log, err := os.OpenFile(b.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("repro: %w", err)
	}
	defer log.Close()
	words = append(append([]string{"-c", `umask "$0" && exec "$@"`, fmt.Sprintf("%03o", b.umask)}, slices.Concat(b.oneCPU, b.clock)...), words...)
	cmd := exec.CommandContext(ctx, "sh", words...)
	cmd.Dir, cmd.Env = b.tree, b.settings
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if b.mapUser {
		asOtherUser(cmd.SysProcAttr)
	}
	if b.shift > 0 {
		err = b.runShifted(ctx, cmd, log)
	} else {
		err = runGroup(cmd)
	}
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w\n%s", err, tailOf(b.log))
}

// runGroup runs a process group to its end.
func runGroup(cmd *exec.Cmd) error {
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = stopTime
	err := cmd.Run()
	if cmd.Process != nil {
		// Whoever did not listen; mostly there is nobody left.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	return err
}

// runShifted does the same under a shifted clock.
func (b *reproBuild) runShifted(ctx context.Context, cmd *exec.Cmd, log *os.File) error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	pid, wait, err := (&shiftedClock{by: b.shift}).start(cmd, []*os.File{null, log, log})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- wait() }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		_ = syscall.Kill(-pid, syscall.SIGTERM) // one that is gone is what is wanted
		select {
		case err = <-ended:
		case <-time.After(stopTime):
			_ = syscall.Kill(-pid, syscall.SIGKILL)
			err = <-ended
		}
	}
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	return err
}

// tailOf returns the last lines of a build's log.
func tailOf(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-logTail):], "\n")
}

// asOtherUser lets a process see itself as otherUser, in a user namespace of
// its own (user_namespaces(7)). To the file system it stays who it is.
func asOtherUser(a *syscall.SysProcAttr) {
	a.Cloneflags = syscall.CLONE_NEWUSER
	a.UidMappings = []syscall.SysProcIDMap{{ContainerID: otherUser, HostID: os.Getuid(), Size: 1}}
	a.GidMappings = []syscall.SysProcIDMap{{ContainerID: otherUser, HostID: os.Getgid(), Size: 1}}
}

// canMapUser tries whether this machine lets us.
func canMapUser(ctx context.Context) bool {
	cmd := exec.CommandContext(ctx, "id", "-u")
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	asOtherUser(cmd.SysProcAttr)
	out, err := cmd.Output()
	return err == nil && string(bytes.TrimSpace(out)) == strconv.Itoa(otherUser)
}
