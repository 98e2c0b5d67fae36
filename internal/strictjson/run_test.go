package strictjson

import (
	"math/rand/v2"
	"testing"
	"unicode/utf8"
)

// TestARunEndsAtTheFirstByteThatDoesNotStandForItself holds eight bytes at once
// against one at a time, at every place of a word.
func TestARunEndsAtTheFirstByteThatDoesNotStandForItself(t *testing.T) {
	slow := func(s []byte, ascii bool) int {
		for i, c := range s {
			if c < 0x20 || c == '"' || c == '\\' || ascii && c >= utf8.RuneSelf {
				return i
			}
		}
		return len(s)
	}
	check := func(s []byte) {
		t.Helper()
		for _, ascii := range []bool{false, true} {
			if got, want := run(s, ascii), slow(s, ascii); got != want || run(string(s), ascii) != want {
				t.Fatalf("%q, ascii %v: %d, want %d", s, ascii, got, want)
			}
		}
	}
	for c := range 256 {
		for at := range 20 {
			s := []byte("abcdefghijklmnopqrst")
			s[at] = byte(c)
			check(s)
		}
	}
	near := []byte{0, 0x1f, 0x20, 0x21, '"', '#', '[', '\\', ']', 0x7f, 0x80, 0x9f, 0xa0, 0xa2, 0xdc, 0xff}
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		s := make([]byte, random.IntN(40))
		for i := range s {
			if s[i] = 'a'; random.IntN(6) == 0 {
				s[i] = near[random.IntN(len(near))]
			}
		}
		check(s)
	}
}
