package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"

	"omega/init/internal/jail"
	"omega/internal/wire"
)

// channelsEnv names the descriptors that a child was started with, as
// "pid1=3,log=4": the peer and the descriptor's number.
const channelsEnv = "OMEGA_CHANNELS"

// verboseEnv, if set, lets children log more than warnings. Only a debug image
// and `omega dev` set it: the console belongs to the host.
const verboseEnv = "OMEGA_VERBOSE"

// newLog is the slog of one process.
func newLog(name string, verbose bool) *slog.Logger {
	level := slog.LevelWarn
	if verbose {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})).With("child", name)
}

// child is what a child's code has of the process around it. It knows nothing
// of virtual machines: `omega dev` starts the same children with the same
// channels.
type child struct {
	name  string
	log   *slog.Logger
	conns map[string]*wire.Conn

	mu      sync.Mutex // guards clients
	clients map[string]*wire.Client
}

// channel returns the channel to one peer, to serve on.
func (c *child) channel(peer string) (*wire.Conn, error) {
	conn := c.conns[peer]
	if conn == nil {
		return nil, fmt.Errorf("no channel to %s", peer)
	}
	return conn, nil
}

// client returns the client for calls to one peer; there is one per peer.
func (c *child) client(peer string) (*wire.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cl := c.clients[peer]; cl != nil {
		return cl, nil
	}
	conn, err := c.channel(peer)
	if err != nil {
		return nil, err
	}
	c.clients[peer] = wire.NewClient(conn)
	return c.clients[peer], nil
}

// runChild is the life of one child; it returns the exit code.
func runChild(s *spec) int {
	log := newLog(s.name, os.Getenv(verboseEnv) != "")
	if err := enterJail(s); err != nil {
		log.Error("entering jail", "error", err)
		return 1
	}
	conns, err := openChannels(os.Getenv(channelsEnv))
	if err != nil {
		log.Error("channels", "error", err)
		return 1
	}
	os.Clearenv()
	c := &child{name: s.name, log: log, conns: conns, clients: map[string]*wire.Client{}}
	if err := s.run(context.Background(), c); err != nil && !wire.Gone(err) {
		log.Error("ended", "error", err)
		return 1
	}
	return 0
}

// enterJail gives up what the table does not grant. Before it, no foreign byte
// has been read.
func enterJail(s *spec) error {
	filter, err := s.filter()
	if err != nil {
		return err
	}
	return (&jail.Jail{UID: s.uid, Caps: s.caps, Filter: filter}).Enter()
}

// openChannels takes over the descriptors that the environment names.
func openChannels(env string) (map[string]*wire.Conn, error) {
	conns := map[string]*wire.Conn{}
	if env == "" {
		return nil, errors.New("none given")
	}
	for item := range strings.SplitSeq(env, ",") {
		peer, number, _ := strings.Cut(item, "=")
		fd, err := strconv.ParseUint(number, 10, 16)
		if err != nil || peer == "" || conns[peer] != nil {
			return nil, fmt.Errorf("item %q", item)
		}
		conn, err := wire.NewConn(os.NewFile(uintptr(fd), peer))
		if err != nil {
			return nil, fmt.Errorf("channel to %s: %w", peer, err)
		}
		conns[peer] = conn
	}
	return conns, nil
}
