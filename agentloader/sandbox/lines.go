package sandbox

import (
	"bytes"
	"slices"
	"strings"
	"sync"
)

// Bounds of what is kept of an agent's output.
const (
	maxLines = 64
	maxLine  = 512
)

// lastLines keeps the last lines written to it, each cut to maxLine bytes.
type lastLines struct {
	mu    sync.Mutex
	lines []string // the oldest first
	part  []byte   // the line that has not ended
}

func newLastLines() *lastLines { return &lastLines{} }

// Write never fails and never blocks: an agent must not be stopped by its own chatter. Nor may chatter
// cost the platform more time than the agent, so lines that nobody will see are not looked at.
func (l *lastLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rest := b
	for n, end := 0, len(b); n <= maxLines; n++ {
		if end = bytes.LastIndexByte(b[:end], '\n'); end < 0 {
			break
		}
		if n == maxLines {
			rest, l.part = b[end+1:], l.part[:0]
		}
	}
	for _, c := range rest {
		if c == '\n' {
			l.end()
		} else if len(l.part) < maxLine {
			l.part = append(l.part, c)
		}
	}
	return len(b), nil
}

func (l *lastLines) end() {
	if len(l.lines) == maxLines {
		l.lines = append(l.lines[:0], l.lines[1:]...)
	}
	l.lines = append(l.lines, clean(l.part))
	l.part = l.part[:0]
}

// Lines returns what was kept, with the line that has not ended.
func (l *lastLines) Lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := slices.Clone(l.lines)
	if len(l.part) > 0 {
		out = append(out, clean(l.part))
	}
	return out[max(0, len(out)-maxLines):]
}

// clean takes control bytes out, so that an agent cannot draw on the console that shows its lines.
func clean(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f {
			return '.'
		}
		return r
	}, strings.ToValidUTF8(string(b), "?"))
}
