// Package cbor writes and reads a small part of CBOR (RFC 8949) in its
// deterministic form (section 4.2.1): integers, byte and text strings, arrays,
// maps, tags, booleans; shortest lengths, definite sizes, keys in order. There
// is one spelling for each value, and everything else is refused. It has no
// floats, no null and no indefinite lengths, and knows no Go struct but those
// that Marshal is given.
package cbor

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"
)

// Major types (RFC 8949 section 3.1).
const (
	majorUint  = 0
	majorNeg   = 1
	majorBytes = 2
	majorText  = 3
	majorArray = 4
	majorMap   = 5
	majorTag   = 6
	majorOther = 7
)

// Simple values (RFC 8949 section 3.3).
const (
	simpleFalse = 20
	simpleTrue  = 21
)

// maxDepth bounds how deep arrays, maps and tags may nest.
const maxDepth = 16

// Values are, in Go: int64 (what fits) and uint64 (what is larger), []byte,
// string, bool, []any, Map and Tag.

// A Pair is one entry of a map.
type Pair struct {
	Key   any // int64, uint64 or string
	Value any
}

// Map is a map in the order of its encoded keys.
type Map []Pair

// Tag is a tagged value.
type Tag struct {
	Number uint64
	Value  any
}

// Get returns the value under key.
func (m Map) Get(key any) (any, bool) {
	for _, p := range m {
		if p.Key == key {
			return p.Value, true
		}
	}
	return nil, false
}

// Encode writes v. It sorts the entries of maps.
func Encode(v any) ([]byte, error) { return appendValue(nil, v, 0) }

func appendValue(b []byte, v any, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("cbor: nested deeper than %d", maxDepth)
	}
	switch v := v.(type) {
	case int:
		return appendInt(b, int64(v)), nil
	case int64:
		return appendInt(b, v), nil
	case uint64:
		return appendHead(b, majorUint, v), nil
	case []byte:
		return append(appendHead(b, majorBytes, uint64(len(v))), v...), nil
	case string:
		if !utf8.ValidString(v) {
			return nil, errors.New("cbor: text is not UTF-8")
		}
		return append(appendHead(b, majorText, uint64(len(v))), v...), nil
	case bool:
		if v {
			return appendHead(b, majorOther, simpleTrue), nil
		}
		return appendHead(b, majorOther, simpleFalse), nil
	case []any:
		b = appendHead(b, majorArray, uint64(len(v)))
		var err error
		for _, e := range v {
			if b, err = appendValue(b, e, depth+1); err != nil {
				return nil, err
			}
		}
		return b, nil
	case Map:
		return appendMap(b, v, depth)
	case Tag:
		return appendValue(appendHead(b, majorTag, v.Number), v.Value, depth+1)
	}
	return nil, fmt.Errorf("cbor: a value of type %T", v)
}

func appendMap(b []byte, m Map, depth int) ([]byte, error) {
	entries := make([][2][]byte, len(m))
	for i, p := range m {
		switch p.Key.(type) {
		case int, int64, uint64, string:
		default:
			return nil, fmt.Errorf("cbor: a key of type %T", p.Key)
		}
		for j, part := range []any{p.Key, p.Value} {
			e, err := appendValue(nil, part, depth+1)
			if err != nil {
				return nil, err
			}
			entries[i][j] = e
		}
	}
	slices.SortFunc(entries, func(x, y [2][]byte) int { return bytes.Compare(x[0], y[0]) })
	b = appendHead(b, majorMap, uint64(len(m)))
	for i, e := range entries {
		if i > 0 && bytes.Equal(entries[i-1][0], e[0]) {
			return nil, errors.New("cbor: a key stands twice")
		}
		b = append(append(b, e[0]...), e[1]...)
	}
	return b, nil
}

func appendInt(b []byte, v int64) []byte {
	if v < 0 {
		return appendHead(b, majorNeg, uint64(-(v + 1)))
	}
	return appendHead(b, majorUint, uint64(v))
}

// appendHead writes a major type and its argument in the fewest bytes.
func appendHead(b []byte, major byte, n uint64) []byte {
	m := major << 5
	switch {
	case n < 24:
		return append(b, m|byte(n))
	case n <= math.MaxUint8:
		return append(b, m|24, byte(n))
	case n <= math.MaxUint16:
		return append(b, m|25, byte(n>>8), byte(n))
	case n <= math.MaxUint32:
		return append(b, m|26, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(b, m|27, byte(n>>56), byte(n>>48), byte(n>>40), byte(n>>32), byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}
