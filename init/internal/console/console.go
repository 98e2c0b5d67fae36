// Package console prints PID 1's lines. Tools on the host parse them, so the
// words are fixed; what comes from elsewhere is bounded and reduced to plain
// ASCII first. The console belongs to the host: nothing secret is printed.
package console

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// maxForeign bounds foreign text within a line.
const maxForeign = 300

// maxHeld bounds the lines kept until a device is there.
const maxHeld = 16 << 10

// Console prints lines to a device that may appear later.
type Console struct {
	uptime func() time.Duration

	mu   sync.Mutex // guards what follows
	out  io.Writer
	held bytes.Buffer
}

// New returns a console without a device: lines are held until Attach.
func New(uptime func() time.Duration) *Console { return &Console{uptime: uptime} }

// Attach prints what was held to w, and all that follows.
func (c *Console) Attach(w io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = w
	_, _ = w.Write(c.held.Bytes()) // there is nowhere to report a lost console
	c.held = bytes.Buffer{}
}

// AttachFirst attaches w if there is no device yet.
func (c *Console) AttachFirst(w io.Writer) {
	c.mu.Lock()
	none := c.out == nil
	c.mu.Unlock()
	if none {
		c.Attach(w)
	}
}

// Mark prints "omega: WORDS MS", MS being the machine's uptime.
func (c *Console) Mark(words string) { c.line(fmt.Sprintf("%s %d", words, c.uptime().Milliseconds())) }

// Say prints "omega: WORDS".
func (c *Console) Say(words string) { c.line(words) }

// Agent prints what happened to an agent, with a reason where there is one.
func (c *Console) Agent(instance, event, reason string) {
	if instance == "" {
		instance = "?"
	}
	words := "agent " + strings.ReplaceAll(Plain(instance), " ", "_") + " " + event
	if reason != "" {
		words += " " + Plain(reason)
	}
	c.line(words)
}

func (c *Console) line(words string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	line := "omega: " + words + "\n"
	if c.out != nil {
		_, _ = io.WriteString(c.out, line)
		return
	}
	if c.held.Len()+len(line) <= maxHeld {
		c.held.WriteString(line)
	}
}

// Plain is foreign text made fit for a terminal: printable ASCII, one line, at
// most maxForeign bytes.
func Plain(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s[:min(len(s), maxForeign)])
	return s
}
