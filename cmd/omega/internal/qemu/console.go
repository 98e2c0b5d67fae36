package qemu

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
)

// Bounds of the console: the guest is not trusted to be brief.
const (
	maxLine  = 4 << 10
	maxLines = 8000
	// lastLines are quoted when something went wrong.
	lastLines = 12
)

// PowerOffPrefix begins the line in which the guest says why it powers off.
const PowerOffPrefix = "omega: poweroff: "

// Console collects the guest's serial console as lines.
type Console struct {
	onLine func(string)

	mu     sync.Mutex // guards what follows
	lines  []string
	ended  bool
	notify chan struct{} // closed and replaced at each change
}

// newConsole calls onLine, if it is not nil, for each line, in order.
func newConsole(onLine func(string)) *Console {
	return &Console{onLine: onLine, notify: make(chan struct{})}
}

// read takes lines from r until it ends.
func (c *Console) read(r io.Reader) {
	br := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := br.ReadSlice('\n') // a longer line comes in pieces
		if len(line) > 0 {
			c.add(strings.TrimRight(clean(line), "\r\n"))
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	close(c.notify)
}

// clean drops what a terminal would act on: the firmware clears the screen.
func clean(line []byte) string {
	for {
		i := bytes.IndexByte(line, 0x1b)
		if i < 0 {
			break
		}
		end := i + 1
		if end < len(line) && line[end] == '[' {
			for end++; end < len(line) && (line[end] < '@' || line[end] > '~'); end++ {
			}
		}
		line = append(line[:i:i], line[min(end+1, len(line)):]...)
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r == 0x7f || r == '\uFFFD' {
			return -1
		}
		return r
	}, string(line))
}

func (c *Console) add(line string) {
	c.mu.Lock()
	if len(c.lines) < maxLines { // a guest that says more is not listened to
		c.lines = append(c.lines, line)
	}
	close(c.notify)
	c.notify = make(chan struct{})
	c.mu.Unlock()
	if c.onLine != nil {
		c.onLine(line)
	}
}

// Lines returns what was printed so far.
func (c *Console) Lines() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.lines...)
}

// Last returns the last lines, for an error message.
func (c *Console) Last() string {
	lines := c.Lines()
	if len(lines) == 0 {
		return "  (nothing was printed)"
	}
	return "  " + strings.Join(lines[max(0, len(lines)-lastLines):], "\n  ")
}

// PoweredOff returns the guest's own reason for powering off, if it gave one.
func (c *Console) PoweredOff() (reason string, ok bool) {
	for _, l := range c.Lines() {
		if r, ok := strings.CutPrefix(l, PowerOffPrefix); ok {
			return r, true
		}
	}
	return "", false
}

// ErrEnded reports a guest that ended before it printed what was waited for.
var ErrEnded = errors.New("the machine ended")

// WaitLine returns the first line, printed or still to come, that begins with
// prefix. If the machine ends first, the error says how and quotes the console.
func (c *Console) WaitLine(ctx context.Context, prefix string) (string, error) {
	for seen := 0; ; {
		c.mu.Lock()
		lines, ended, notify := c.lines, c.ended, c.notify
		c.mu.Unlock()
		for ; seen < len(lines); seen++ {
			if strings.HasPrefix(lines[seen], prefix) {
				return lines[seen], nil
			}
		}
		if ended {
			return "", c.early(prefix)
		}
		select {
		case <-notify:
		case <-ctx.Done():
			return "", fmt.Errorf("waiting for %q on the console: %w; it ended with\n%s", prefix, ctx.Err(), c.Last())
		}
	}
}

func (c *Console) early(prefix string) error {
	if reason, ok := c.PoweredOff(); ok {
		return fmt.Errorf("%w before %q: it powered off: %s", ErrEnded, prefix, reason)
	}
	return fmt.Errorf("%w before %q; the console ended with\n%s", ErrEnded, prefix, c.Last())
}
