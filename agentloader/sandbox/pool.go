package sandbox

import (
	"context"
	"sync"
	"time"
)

// A Spare is a sandbox that waits in a pool.
type Spare interface {
	Alive() bool
	Drop() // ends it
}

// Bounds say what a pool may take.
type Bounds struct {
	Reserve int64         // bytes of memory that stay available for others
	Cost    int64         // bytes that one more spare may take
	Most    int           // spares in all
	Quiet   time.Duration // after the last one was taken: whoever starts something has the machine first
}

// A Pool keeps spares for those who asked for them, as long as memory lasts. It
// starts one at a time, in the background, and gives up spares when memory runs
// short. What a spare is made of is its maker's affair.
type Pool[S Spare] struct {
	bounds Bounds
	free   func() (int64, error) // bytes of memory that are available

	mu      sync.Mutex // guards what follows
	shelves map[string]*shelf[S]
	busy    time.Time // when a spare was last taken or asked for
}

// shelf is the spares of one kind.
type shelf[S Spare] struct {
	want   int
	start  func(ctx context.Context) (S, error)
	spares []S
	rest   time.Time // after one could not be started
}

// poolRest is how long a kind of spares is left alone after one could not be started.
const poolRest = time.Minute

// poolTick is how often a pool looks at the memory.
const poolTick = time.Second

// NewPool makes an empty pool; Run fills it.
func NewPool[S Spare](bounds Bounds, free func() (int64, error)) *Pool[S] {
	return &Pool[S]{bounds: bounds, free: free, shelves: map[string]*shelf[S]{}}
}

// Keep asks for so many spares under a key.
func (p *Pool[S]) Keep(key string, want int, start func(ctx context.Context) (S, error)) {
	if want <= 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shelves[key] == nil {
		p.shelves[key] = &shelf[S]{want: want, start: start}
		p.busy = time.Now()
	}
}

// Forget ends the spares of a key and keeps no more of them.
func (p *Pool[S]) Forget(key string) {
	p.mu.Lock()
	s := p.shelves[key]
	delete(p.shelves, key)
	p.mu.Unlock()
	if s != nil {
		drop(s.spares)
	}
}

// Take hands out a spare that lives, if there is one.
func (p *Pool[S]) Take(key string) (spare S, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = time.Now()
	s := p.shelves[key]
	for s != nil && len(s.spares) > 0 && !ok {
		spare, s.spares = s.spares[0], s.spares[1:] // the oldest has had the most time to get ready
		if ok = spare.Alive(); !ok {
			go spare.Drop()
		}
	}
	return spare, ok
}

// Run fills the pool until ctx ends, and then ends all spares.
func (p *Pool[S]) Run(ctx context.Context) {
	tick := time.NewTicker(poolTick)
	defer tick.Stop()
	for ctx.Err() == nil {
		if !p.step(ctx) {
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, s := range p.shelves {
		drop(s.spares)
		delete(p.shelves, key)
	}
}

// step starts or gives up one spare, and reports whether it started one.
func (p *Pool[S]) step(ctx context.Context) bool {
	free, err := p.free()
	if err != nil || free < p.bounds.Reserve {
		drop(p.surplus())
		return false
	}
	if free-p.bounds.Cost < p.bounds.Reserve {
		return false
	}
	key, s := p.lacking()
	if s == nil {
		return false
	}
	spare, err := s.start(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err != nil:
		s.rest = time.Now().Add(poolRest)
		return false
	case p.shelves[key] != s || ctx.Err() != nil:
		go spare.Drop() // nobody wants it any more
		return false
	}
	s.spares = append(s.spares, spare)
	return true
}

// lacking is a kind of which there are too few.
func (p *Pool[S]) lacking() (string, *shelf[S]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all, now := 0, time.Now()
	for _, s := range p.shelves {
		alive := s.spares[:0]
		for _, spare := range s.spares {
			if spare.Alive() {
				alive = append(alive, spare)
			} else {
				go spare.Drop()
			}
		}
		s.spares = alive
		all += len(s.spares)
	}
	if all >= p.bounds.Most || now.Sub(p.busy) < p.bounds.Quiet {
		return "", nil
	}
	for key, s := range p.shelves {
		if len(s.spares) < s.want && now.After(s.rest) {
			return key, s
		}
	}
	return "", nil
}

// surplus takes one spare of the kind of which there are most.
func (p *Pool[S]) surplus() []S {
	p.mu.Lock()
	defer p.mu.Unlock()
	var most *shelf[S]
	for _, s := range p.shelves {
		if most == nil || len(s.spares) > len(most.spares) {
			most = s
		}
	}
	if most == nil || len(most.spares) == 0 {
		return nil
	}
	out := most.spares[:1:1]
	most.spares = most.spares[1:]
	return out
}

func drop[S Spare](spares []S) {
	for _, s := range spares {
		s.Drop()
	}
}
