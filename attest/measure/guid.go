package measure

import (
	"encoding/hex"
	"strings"
)

// guid is a GUID as UEFI stores it: the first three groups little-endian. It
// is for this package's own constants and panics on any other text.
func guid(text string) [16]byte {
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil {
		panic(err)
	}
	g := [16]byte(b)
	for _, s := range [][]byte{g[0:4], g[4:6], g[6:8]} {
		for i, j := 0, len(s)-1; i < j; i, j = i+1, j-1 {
			s[i], s[j] = s[j], s[i]
		}
	}
	return g
}
