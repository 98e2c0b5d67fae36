package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"omega/agentloader/bundle"
)

// sandboxLinks are the socket pairs between the gateway and one sandbox: the
// agent's way out, and, where it serves or speaks over
// stdio, the gateway's way in.
type sandboxLinks struct {
	ours, theirs []*os.File
	port         int // where the agent serves
}

func newLinks(serve *bundle.Serve, stdio bool) (*sandboxLinks, error) {
	l, n := &sandboxLinks{}, 1
	if serve != nil {
		l.port, n = serve.Port, 2
	}
	if stdio {
		n = 2
	}
	for range n {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			l.close()
			return nil, fmt.Errorf("link: %w", err)
		}
		l.ours, l.theirs = append(l.ours, os.NewFile(uintptr(fds[0]), "link")), append(l.theirs, os.NewFile(uintptr(fds[1]), "link"))
	}
	return l, nil
}

// inbound is the sandbox's end of the gateway's way in; nil where there is none.
func (l *sandboxLinks) inbound() *os.File {
	if len(l.theirs) < 2 {
		return nil
	}
	return l.theirs[1]
}

// closeTheirs gives up the sandbox's ends, once it has them.
func (l *sandboxLinks) closeTheirs() {
	for _, f := range l.theirs {
		_ = f.Close()
	}
	l.theirs = nil
}

func (l *sandboxLinks) close() {
	for _, f := range append(l.ours, l.theirs...) {
		_ = f.Close()
	}
}
