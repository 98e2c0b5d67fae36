package images

import (
	"sync"
	"sync/atomic"
	"time"
)

// A Step shows how far one piece of work is.
type Step interface {
	Set(done, total int64)
	Done()
}

// A Report begins a step. A nil Report is silent.
type Report func(name string) Step

// pulse is how often a step is shown again while nothing new is known of it:
// a compiler says nothing for minutes, and a clock that stands looks hung.
const pulse = 500 * time.Millisecond

// begin starts a step, also without a reporter.
func (r Report) begin(name string) Step {
	if r == nil {
		return silent{}
	}
	s := &pulsing{step: r(name), quit: make(chan struct{})}
	s.wg.Go(s.repeat)
	return s
}

type silent struct{}

func (silent) Set(int64, int64) {}
func (silent) Done()            {}

// A pulsing step repeats its last state until it is done.
type pulsing struct {
	step        Step
	done, total atomic.Int64
	quit        chan struct{}
	wg          sync.WaitGroup
}

func (p *pulsing) Set(done, total int64) {
	p.done.Store(done)
	p.total.Store(total)
	p.step.Set(done, total)
}

func (p *pulsing) Done() {
	close(p.quit)
	p.wg.Wait()
	p.step.Done()
}

func (p *pulsing) repeat() {
	tick := time.NewTicker(pulse)
	defer tick.Stop()
	for {
		select {
		case <-p.quit:
			return
		case <-tick.C:
			p.step.Set(p.done.Load(), p.total.Load())
		}
	}
}
