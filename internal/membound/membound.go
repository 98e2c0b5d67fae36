// Package membound fails a test whose parser takes memory out of proportion to
// what it was given. It is for tests only, and for those that run nothing else
// at the same time: it counts what the whole process allocates.
package membound

import (
	"runtime"
	"testing"
)

// A parser may allocate so much for nothing, and so much for each byte of its
// input. JSON's "{}," is three bytes and may stand for a struct of 300; what a
// hostile length asks for is orders above both.
const (
	base    = 256 << 10
	perByte = 200
)

// Check runs parse, which reads in, and fails t where it allocated too much.
func Check(t testing.TB, in []byte, parse func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	parse()
	runtime.ReadMemStats(&after)
	if took, may := after.TotalAlloc-before.TotalAlloc, base+perByte*uint64(len(in)); took > may {
		t.Errorf("parsing %d bytes took %d bytes of memory, and may take %d", len(in), took, may)
	}
}
