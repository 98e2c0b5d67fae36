// Package share spreads the same work over the processors. It is for work that
// waits for nothing: hashes and signatures.
package share

import (
	"runtime"
	"sync"
)

// Each does do for 0 to n-1, on as many processors as there are, and returns
// when all is done. A processor gets no less than a few of them.
func Each(n, few int, do func(i int)) {
	workers := min(runtime.GOMAXPROCS(0), n/max(few, 1))
	if workers < 2 {
		for i := range n {
			do(i)
		}
		return
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				do(i)
			}
		})
	}
	wg.Wait()
}
