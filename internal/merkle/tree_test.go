package merkle

import (
	"slices"
	"testing"
)

func TestATreeThatIsKeptIsTheOneThatIsBuilt(t *testing.T) {
	var kept Tree
	if kept.Root() != Root[Hash](nil) || kept.Proof(0) != nil {
		t.Error("the tree of no leaves has a leaf")
	}
	l := leaves(33)
	for n := 1; n <= len(l); n++ {
		before := kept.Root()
		next := kept.With(n-1, l[n-1])
		if kept.Root() != before {
			t.Fatalf("the tree of %d leaves changed", n-1)
		}
		kept = next
		for _, changed := range []int{0, n / 2, n - 1} {
			values := slices.Clone(l[:n])
			values[changed][0] ^= 1
			if kept.With(changed, values[changed]).Root() != Root(values) {
				t.Errorf("leaf %d of %d changed: another root", changed, n)
			}
		}
		if kept.Root() != Root(l[:n]) {
			t.Errorf("%d leaves: another root", n)
		}
		for i := -1; i <= n; i++ {
			if !slices.Equal(kept.Proof(i), Proof(l[:n], i)) {
				t.Errorf("leaf %d of %d: another proof", i, n)
			}
		}
	}
}
