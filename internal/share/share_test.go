package share

import (
	"sync/atomic"
	"testing"
)

func TestEachIsDoneOnceAndBeforeItReturns(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 64, 1000} {
		for _, few := range []int{0, 1, 7, 5000} {
			done := make([]atomic.Int32, n)
			Each(n, few, func(i int) { done[i].Add(1) })
			for i := range done {
				if got := done[i].Load(); got != 1 {
					t.Fatalf("%d of %d, %d for each at least: done %d times", i, n, few, got)
				}
			}
		}
	}
}
