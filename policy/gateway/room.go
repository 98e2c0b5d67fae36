package gateway

import (
	"context"
	"errors"
	"io"
	"sync"
)

const (
	// maxHeld bounds what the requests and answers of all agents take in memory
	// at once, and maxHeldAgent those of one: the kernel ends a gateway that
	// takes more than its share, and the platform with it.
	maxHeld      = 192 << 20
	maxHeldAgent = 64 << 20
	// copies is how often a body is held: as it came, parsed, and written anew.
	copies = 3
)

var errRoom = errors.New("the gateway holds as many bodies as it can; try again")

// room is what all agents' bodies take.
type room struct {
	mu     sync.Mutex // guards what follows
	total  int
	agents map[string]int // by instance
}

// tab is what one request takes of the room until it is closed. A nil one takes
// nothing.
type tab struct {
	room  *room
	agent string
	held  int // guarded by the room
}

func (t *tab) take(n int) error {
	if t == nil {
		return nil
	}
	t.room.mu.Lock()
	defer t.room.mu.Unlock()
	if n > 0 && (t.room.total+n > maxHeld || t.room.agents[t.agent]+n > maxHeldAgent) {
		return errRoom
	}
	n = max(n, -t.held)
	t.held += n
	t.room.total += n
	if t.room.agents[t.agent] += n; t.room.agents[t.agent] == 0 {
		delete(t.room.agents, t.agent)
	}
	return nil
}

func (t *tab) close() {
	if t != nil {
		_ = t.take(-t.held)
	}
}

type tabKey struct{}

// holding begins a request's tab.
func (l *link) holding(ctx context.Context) (context.Context, *tab) {
	t := &tab{room: &l.g.room, agent: l.agent.Instance}
	return context.WithValue(ctx, tabKey{}, t), t
}

// charged is a body that is read on a request's tab.
type charged struct {
	from io.Reader
	tab  *tab
	read int // since the last settle
	kept int // what stays on the tab: the buffer for the longest part
}

func charge(ctx context.Context, r io.Reader) *charged {
	t, _ := ctx.Value(tabKey{}).(*tab)
	return &charged{from: r, tab: t}
}

func (c *charged) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	if full := c.tab.take(n * copies); full != nil {
		return 0, full
	}
	c.read += n
	return n, err
}

// settle gives back what was read of parts that have been passed on.
func (c *charged) settle() {
	kept := max(c.kept, c.read)
	_ = c.tab.take(kept - c.kept - c.read*copies)
	c.kept, c.read = kept, 0
}
