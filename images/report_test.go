package images

import (
	"sync/atomic"
	"testing"
	"time"
)

type countingStep struct{ sets, dones atomic.Int32 }

func (c *countingStep) Set(int64, int64) { c.sets.Add(1) }
func (c *countingStep) Done()            { c.dones.Add(1) }

func TestAStepIsShownAgainWhileNothingNewIsKnown(t *testing.T) {
	var c countingStep
	s := Report(func(string) Step { return &c }).begin("compiling")
	s.Set(1, 2)
	time.Sleep(3 * pulse)
	s.Done()
	sets := c.sets.Load()
	if sets < 2 || c.dones.Load() != 1 {
		t.Errorf("%d times shown, %d times done", sets, c.dones.Load())
	}
	time.Sleep(2 * pulse)
	if c.sets.Load() != sets {
		t.Error("the step is shown after it was done")
	}
}

func TestANilReportIsSilent(t *testing.T) {
	s := Report(nil).begin("anything")
	s.Set(1, 2)
	s.Done()
}
