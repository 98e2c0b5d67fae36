package strictjson

import (
	"math/bits"
	"unicode/utf8"
)

// Eight bytes at once: the lowest bit and the highest bit of each.
const (
	lowBits  = 0x0101010101010101
	highBits = 0x8080808080808080
)

// run is how many of the first bytes of a string stand for themselves: none is a
// control character, a quote or a backslash. With ascii, none is beyond ASCII
// either. It looks at eight at once, because most of a large message is text.
func run[T ~string | ~[]byte](s T, ascii bool) int {
	i := 0
	for ; i+8 <= len(s); i += 8 {
		w := uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
			uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
		// The highest bit of a byte becomes set where the byte is smaller than what is
		// taken away; a borrow can set it wrongly only above a byte that is.
		quote, slash := w^'"'*lowBits, w^'\\'*lowBits
		found := (w-0x20*lowBits)&^w | (quote-lowBits)&^quote | (slash-lowBits)&^slash
		if ascii {
			found |= w
		}
		if found &= highBits; found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || ascii && c >= utf8.RuneSelf {
			break
		}
	}
	return i
}
