package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// errMachineEnded reports a machine that was gone before it said what the demo
// was waiting for.
var errMachineEnded = errors.New("the machine ended")

// A transcript keeps what the guest itself said on its console, and when. One
// goroutine hears, another waits; what it waited through is told on the way.
type transcript struct {
	tell func(saying)
	told int // lines, by the waiting goroutine alone

	mu    sync.Mutex // guards what follows
	lines []saying
	more  chan struct{} // closed and replaced at each line
}

// A saying is one console line of the guest's, without its "omega: ".
type saying struct {
	at    time.Time
	words string
}

func newTranscript(tell func(saying)) *transcript {
	return &transcript{tell: tell, more: make(chan struct{})}
}

// hear takes in one console line.
func (t *transcript) hear(line string) {
	words, ok := strings.CutPrefix(line, "omega: ")
	if !ok {
		return // the firmware's and the kernel's
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, saying{time.Now(), words})
	close(t.more)
	t.more = make(chan struct{})
}

// wait returns the first line that begins with prefix, spoken or to come. The
// end of the machine ends the wait too, and so does a power-off that gives
// another reason than what is waited for.
func (t *transcript) wait(ctx context.Context, done <-chan struct{}, prefix string) (saying, error) {
	seen := 0
	for {
		t.mu.Lock()
		lines, more := t.lines[seen:], t.more
		seen = len(t.lines)
		t.mu.Unlock()
		for i, line := range lines {
			t.tellUpTo(seen - len(lines) + i + 1)
			if strings.HasPrefix(line.words, prefix) {
				return line, nil
			}
			if reason, ok := strings.CutPrefix(line.words, "poweroff: "); ok {
				return saying{}, fmt.Errorf("%w before it said %q: it powered off: %s", errMachineEnded, prefix, reason)
			}
		}
		select {
		case <-more:
			continue
		case <-ctx.Done():
			return saying{}, fmt.Errorf("waiting for the guest to say %q: %w", prefix, ctx.Err())
		case <-done:
		}
		// Every line was heard before the machine counts as ended.
		if t.size() == seen {
			return saying{}, fmt.Errorf("%w before it said %q", errMachineEnded, prefix)
		}
	}
}

// tellUpTo tells the first n lines, each once.
func (t *transcript) tellUpTo(n int) {
	t.mu.Lock()
	lines := t.lines[min(t.told, n):n]
	t.mu.Unlock()
	t.told = max(t.told, n)
	for _, line := range lines {
		t.tell(line)
	}
}

// tellAll tells what nobody waited for.
func (t *transcript) tellAll() { t.tellUpTo(t.size()) }

func (t *transcript) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.lines)
}

// said returns every line so far that begins with prefix.
func (t *transcript) said(prefix string) []saying {
	t.mu.Lock()
	defer t.mu.Unlock()
	var found []saying
	for _, line := range t.lines {
		if strings.HasPrefix(line.words, prefix) {
			found = append(found, line)
		}
	}
	return found
}

// guestTime reads the uptime in milliseconds that ends a line.
func (s saying) guestTime() (int64, error) {
	fields := strings.Fields(s.words)
	ms, err := strconv.ParseInt(fields[len(fields)-1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("console line %q: %w", s.words, err)
	}
	return ms, nil
}
