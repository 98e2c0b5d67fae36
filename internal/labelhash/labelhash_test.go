package labelhash

import (
	"crypto/sha256"
	"encoding/binary"
	"testing"
)

func TestEveryPartStandsBehindItsLength(t *testing.T) {
	var in []byte
	for _, p := range []string{"omega", "l", "ab", ""} {
		in = binary.BigEndian.AppendUint64(in, uint64(len(p)))
		in = append(in, p...)
	}
	if got, want := Sum256("l", []byte("ab"), nil), sha256.Sum256(in); got != want {
		t.Errorf("Sum256 = %x, want %x", got, want)
	}
}

func TestDifferentListsHashDifferently(t *testing.T) {
	lists := map[string][][]byte{
		"nothing":     {},
		"one empty":   {nil},
		"ab":          {[]byte("ab")},
		"a, b":        {[]byte("a"), []byte("b")},
		"ab, empty":   {[]byte("ab"), nil},
		"other label": {[]byte("l")},
	}
	seen256, seen384, seen512 := map[[32]byte]string{}, map[[48]byte]string{}, map[[64]byte]string{}
	for name, parts := range lists {
		label := "l"
		if name == "other label" {
			label = ""
		}
		a, b, c := Sum256(label, parts...), Sum384(label, parts...), Sum512(label, parts...)
		if seen256[a] != "" || seen384[b] != "" || seen512[c] != "" {
			t.Errorf("%q hashes like %q", name, seen256[a]+seen384[b]+seen512[c])
		}
		seen256[a], seen384[b], seen512[c] = name, name, name
	}
}
