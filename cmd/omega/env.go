package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// Exit codes are part of the command line's contract: other tools act on them.
const (
	exitOK         = 0
	exitUsage      = 1 // usage or internal error
	exitSignature  = 2 // a signature, chain or expiry is not valid
	exitCollateral = 3 // collateral is not available
	exitMismatch   = 4 // values differ from what is expected, or policy says no
)

// env is what a verb may touch of the process: data goes to Stdout, words to Stderr.
type env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// exitError is an error that asks for a particular exit code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// exit wraps err so that the process ends with code. A nil err stays nil.
func exit(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code: code, err: err}
}

// sayf prints one line of words to stderr.
func (e *env) sayf(format string, args ...any) {
	fmt.Fprintf(e.Stderr, format+"\n", args...)
}

// terminal reports whether words go to a terminal.
func (e *env) terminal() bool {
	f, ok := e.Stderr.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// barAfter is how long a step runs before its progress is shown on a terminal.
const barAfter = 2 * time.Second

// A progress shows how far one long step is: a bar on a terminal, and elsewhere
// one line when it begins to take long and one when it is done.
type progress struct {
	e     *env
	name  string
	begin time.Time

	mu    sync.Mutex // guards what follows
	shown time.Time
}

// progress begins a step called name.
func (e *env) progress(name string) *progress {
	return &progress{e: e, name: name, begin: time.Now()}
}

// Set shows that done of total are finished; a total of zero means unknown.
func (p *progress) Set(done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Sub(p.begin) < barAfter {
		return
	}
	if !p.e.terminal() {
		if p.shown.IsZero() {
			p.shown = now
			p.e.sayf("%s ...", p.name)
		}
		return
	}
	if now.Sub(p.shown) < 100*time.Millisecond {
		return
	}
	p.shown = now
	const width = 30
	bar, percent := strings.Repeat("-", width), ""
	if total > 0 {
		n := int(min(done, total) * width / total)
		bar = strings.Repeat("=", n) + strings.Repeat("-", width-n)
		percent = fmt.Sprintf(" %3d%%", min(done, total)*100/total)
	}
	fmt.Fprintf(p.e.Stderr, "\r\x1b[K%s [%s]%s %s", p.name, bar, percent, now.Sub(p.begin).Round(time.Second))
}

// Done ends the step and, if it was shown, says how long it took.
func (p *progress) Done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown.IsZero() {
		return
	}
	if p.e.terminal() {
		fmt.Fprint(p.e.Stderr, "\r\x1b[K")
	}
	p.e.sayf("%s: %s", p.name, time.Since(p.begin).Round(100*time.Millisecond))
}
