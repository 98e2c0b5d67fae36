package sandbox

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

type fakeSpare struct{ dead, dropped atomic.Bool }

func (s *fakeSpare) Alive() bool { return !s.dead.Load() && !s.dropped.Load() }
func (s *fakeSpare) Drop()       { s.dropped.Store(true) }

// fakePool is a pool over a machine with so much memory, of which each spare takes ten.
type fakePool struct {
	*Pool[*fakeSpare]
	memory int64
	made   []*fakeSpare
	fail   error
}

func newFakePool(bounds Bounds, memory int64) *fakePool {
	f := &fakePool{memory: memory}
	f.Pool = NewPool[*fakeSpare](bounds, func() (int64, error) {
		free := f.memory
		for _, s := range f.made {
			if s.Alive() {
				free -= 10
			}
		}
		return free, nil
	})
	return f
}

func (f *fakePool) start(context.Context) (*fakeSpare, error) {
	if f.fail != nil {
		return nil, f.fail
	}
	s := new(fakeSpare)
	f.made = append(f.made, s)
	return s, nil
}

func (f *fakePool) fill() (n int) {
	for f.step(context.Background()) {
		n++
	}
	return n
}

func TestAPoolKeepsAsManySparesAsAreWantedAndMemoryAllows(t *testing.T) {
	tests := []struct {
		name   string
		bounds Bounds
		memory int64
		want   int
	}{
		{"as wanted", Bounds{Reserve: 10, Cost: 10, Most: 9}, 1000, 5},
		{"not more than in all", Bounds{Reserve: 10, Cost: 10, Most: 4}, 1000, 4},
		{"leaving the reserve", Bounds{Reserve: 70, Cost: 10, Most: 9}, 100, 3},
		{"none without memory", Bounds{Reserve: 100, Cost: 10, Most: 9}, 100, 0},
		{"none while the machine is busy", Bounds{Cost: 10, Most: 9, Quiet: time.Hour}, 100, 0},
		{"the zero value has none", Bounds{}, 100, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakePool(tt.bounds, tt.memory)
			f.Keep("a", 3, f.start)
			f.Keep("b", 2, f.start)
			f.Keep("none", 0, f.start)
			if got := f.fill(); got != tt.want {
				t.Errorf("%d spares, want %d", got, tt.want)
			}
		})
	}
}

func TestAPoolHandsOutWhatLivesAndRefills(t *testing.T) {
	f := newFakePool(Bounds{Cost: 10, Most: 9}, 1000)
	if _, ok := f.Take("a"); ok {
		t.Fatal("a spare of nothing")
	}
	f.Keep("a", 2, f.start)
	f.fill()
	f.made[0].dead.Store(true)
	if got, ok := f.Take("a"); !ok || got != f.made[1] {
		t.Errorf("got %v, %v; the first is dead", got, ok)
	}
	if _, ok := f.Take("a"); ok {
		t.Error("a dead spare")
	}
	if n := f.fill(); n != 2 {
		t.Errorf("%d started again", n)
	}
	f.made[2].dead.Store(true)
	if n := f.fill(); n != 1 {
		t.Errorf("%d started for the one that died", n)
	}
}

func TestAPoolGivesUpSparesWhenMemoryRunsShort(t *testing.T) {
	f := newFakePool(Bounds{Reserve: 50, Cost: 10, Most: 9}, 100)
	f.Keep("a", 3, f.start)
	f.fill()
	f.memory = 60 // agents have grown
	for range 5 {
		f.step(context.Background())
	}
	alive := 0
	for _, s := range f.made {
		if s.Alive() {
			alive++
		}
	}
	if alive != 1 {
		t.Errorf("%d spares live where one fits", alive)
	}
}

func TestForgottenSparesAreEnded(t *testing.T) {
	f := newFakePool(Bounds{Cost: 10, Most: 9}, 1000)
	f.Keep("a", 2, f.start)
	f.fill()
	f.Forget("a")
	f.Keep("b", 1, f.start)
	ctx, cancel := context.WithCancel(t.Context())
	f.fill()
	cancel()
	f.Run(ctx)
	for i, s := range f.made {
		if s.Alive() {
			t.Errorf("spare %d lives on", i)
		}
	}
}

func TestAKindThatCannotBeStartedRests(t *testing.T) {
	f := newFakePool(Bounds{Cost: 10, Most: 9}, 1000)
	f.fail = errors.New("no")
	f.Keep("a", 1, f.start)
	f.step(context.Background())
	f.fail = nil
	if n := f.fill(); n != 0 {
		t.Errorf("tried again at once: %d", n)
	}
}
