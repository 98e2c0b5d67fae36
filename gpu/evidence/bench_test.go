package evidence

import (
	"fmt"
	"testing"
)

// BenchmarkAppraise is the evidence of some GPUs with both RIMs, from their
// bytes. There is one recorded GPU, so eight are eight times the same.
func BenchmarkAppraise(b *testing.B) {
	e, p := h100(b)
	for _, n := range []int{1, 8} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				c, err := load(&p)
				if err != nil {
					b.Fatal(err)
				}
				for range n {
					a := appraisal{p: &p, c: c, r: new(Result)}
					if err := a.run(e); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
