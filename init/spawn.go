package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"omega/internal/wire"
)

// self is the running program. It stays reachable after the initramfs that it
// came from has been emptied.
const self = "/proc/self/exe"

// channels holds both ends of every link until a child takes its ends.
type channels struct{ ends map[link][2]*os.File }

// newChannels makes a pair for every link.
func newChannels() (*channels, error) {
	c := &channels{ends: map[link][2]*os.File{}}
	for _, l := range links {
		client, server, err := wire.Pair()
		if err != nil {
			return nil, fmt.Errorf("channel %s to %s: %w", l.client, l.server, err)
		}
		c.ends[l] = [2]*os.File{client, server}
	}
	return c, nil
}

// of returns a child's ends and the peers they lead to, in the order of links.
func (c *channels) of(name string) (files []*os.File, peers []string) {
	for _, l := range links {
		switch name {
		case l.client:
			files, peers = append(files, c.ends[l][0]), append(peers, l.server)
		case l.server:
			files, peers = append(files, c.ends[l][1]), append(peers, l.client)
		}
	}
	return files, peers
}

// nursery starts children and knows which process is which.
type nursery struct {
	channels *channels
	verbose  bool
	cgroup   func(s *spec) (*os.File, error) // nil: no cgroup
	protect  func(pid int) error             // nil: not against running out of memory

	mu   sync.Mutex // guards pids; held while a child is started, so that none ends unknown
	pids map[int]string
}

// start starts one child and returns PID 1's client for it.
func (n *nursery) start(s *spec) (*wire.Client, error) {
	files, peers := n.channels.of(s.name)
	attr := &syscall.ProcAttr{
		Env:   n.env(s, peers),
		Files: []uintptr{0, 1, 2},
		Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	}
	for _, f := range files {
		attr.Files = append(attr.Files, f.Fd())
	}
	if n.cgroup != nil {
		group, err := n.cgroup(s)
		if err != nil {
			return nil, err
		}
		defer group.Close()
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(group.Fd())
	}
	n.mu.Lock()
	pid, err := syscall.ForkExec(self, []string{"init", s.name}, attr)
	if err == nil {
		n.pids[pid] = s.name
	}
	n.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", s.name, err)
	}
	if n.protect != nil {
		if err := n.protect(pid); err != nil {
			return nil, fmt.Errorf("protecting %s: %w", s.name, err)
		}
	}
	for _, f := range files {
		f.Close()
	}
	conn, err := wire.NewConn(n.channels.ends[link{"pid1", s.name}][0])
	if err != nil {
		return nil, fmt.Errorf("channel to %s: %w", s.name, err)
	}
	return wire.NewClient(conn), nil
}

// env is the whole environment of a child. A crash prints no stack: the console
// belongs to the host. Go collects garbage before the cgroup's limit is reached:
// a child that the kernel kills for its memory takes the platform with it.
func (n *nursery) env(s *spec, peers []string) []string {
	env := []string{"GOTRACEBACK=none", channelsEnv + "=" + channelsValue(peers)}
	if s.memory > 0 {
		env = append(env, "GOMEMLIMIT="+strconv.FormatInt(s.memory/4*3, 10))
	}
	if n.verbose {
		env = append(env, verboseEnv+"=1")
	}
	return env
}

// channelsValue is the value of channelsEnv for descriptors that follow stderr.
func channelsValue(peers []string) string {
	items := make([]string, len(peers))
	for i, p := range peers {
		items[i] = p + "=" + strconv.Itoa(3+i)
	}
	return strings.Join(items, ",")
}

// oomScore keeps the kernel from choosing the platform's own children when
// agents use up the memory (proc(5), oom_score_adj).
const oomScore = "-900"

func protect(pid int) error {
	return os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", []byte(oomScore), 0)
}

// errNoneEnded reports that all children live.
var errNoneEnded = errors.New("no child has ended")

// reap collects one process that has ended and says which it was: a name of the
// table, or "" for an orphan that PID 1 inherited. It does not wait.
func (n *nursery) reap() (name string, status syscall.WaitStatus, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
	if err != nil {
		return "", status, err
	}
	if pid == 0 {
		return "", status, errNoneEnded
	}
	name = n.pids[pid]
	delete(n.pids, pid)
	return name, status, nil
}
