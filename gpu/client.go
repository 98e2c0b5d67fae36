package gpu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"time"

	"omega/gpu/probe"
)

// answerTime is how long one answer may take. The program gives up a little
// earlier and says why; this is for one that does not even do that.
const answerTime = 40 * time.Second

// ErrGone reports that the program has ended or was ended. Nothing can be asked
// any more, and the GPU counts as not ready.
var ErrGone = errors.New("the program for the GPU is gone")

// Probe is the program of gpu/nvml, running. It answers one question at a time;
// after the first answer that is late or malformed it is killed.
type Probe struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out io.ReadCloser

	mu   sync.Mutex // held while a question is open
	gone error
}

// Start runs the program. Its standard error is cmd's, its environment too.
func Start(cmd *exec.Cmd) (*Probe, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("pipe to the program for the GPU: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("pipe from the program for the GPU: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("program for the GPU: %w", err)
	}
	return &Probe{cmd: cmd, in: in, out: out}, nil
}

// Close ends the program and waits for it.
func (p *Probe) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(ErrGone)
	return nil
}

// end kills the program, once. The lock is held.
func (p *Probe) end(why error) error {
	if p.gone == nil {
		p.gone = why
		_ = p.in.Close()
		_ = p.cmd.Process.Kill()
		_ = p.out.Close()
		_ = p.cmd.Wait()
	}
	return p.gone
}

// Ask asks one question. An answer that the library could not give is an error
// too; after ErrGone every further one is.
func (p *Probe) Ask(ctx context.Context, q probe.Request) (probe.Answer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone != nil {
		return probe.Answer{}, p.gone
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	// Killing the program ends the read below.
	stop := context.AfterFunc(ctx, func() { _ = p.cmd.Process.Kill() })
	defer stop()
	err := probe.Write(p.in, q)
	var a probe.Answer
	if err == nil {
		a, err = probe.ReadAnswer(p.out, q)
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if err != nil {
		return probe.Answer{}, p.end(fmt.Errorf("%w: %s: %w", ErrGone, q.Op, err))
	}
	if a.Error != "" {
		return probe.Answer{}, fmt.Errorf("GPU: %s: %.300s", q.Op, a.Error)
	}
	return a, nil
}
