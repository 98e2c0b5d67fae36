package cbor

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

var errShort = errors.New("cbor: ends too early")

// Decode reads one value of at most maxBytes and nothing behind it. What it
// returns shares memory with b.
func Decode(b []byte, maxBytes int) (any, error) {
	if len(b) > maxBytes {
		return nil, fmt.Errorf("cbor: %d bytes, limit %d", len(b), maxBytes)
	}
	d := decoder{b}
	v, err := d.value(0)
	if err != nil {
		return nil, err
	}
	if len(d.rest) > 0 {
		return nil, fmt.Errorf("cbor: %d bytes behind the value", len(d.rest))
	}
	return v, nil
}

type decoder struct{ rest []byte }

// head reads a major type and its argument, which must be in its shortest form.
func (d *decoder) head() (major byte, n uint64, err error) {
	if len(d.rest) == 0 {
		return 0, 0, errShort
	}
	major, info := d.rest[0]>>5, d.rest[0]&31
	d.rest = d.rest[1:]
	if info < 24 {
		return major, uint64(info), nil
	}
	if info > 27 { // reserved, or an indefinite length
		return 0, 0, fmt.Errorf("cbor: additional information %d", info)
	}
	size := 1 << (info - 24)
	raw, err := d.take(uint64(size))
	if err != nil {
		return 0, 0, err
	}
	for _, c := range raw {
		n = n<<8 | uint64(c)
	}
	if least := [4]uint64{24, math.MaxUint8 + 1, math.MaxUint16 + 1, math.MaxUint32 + 1}[info-24]; n < least {
		return 0, 0, fmt.Errorf("cbor: %d is not in its shortest form", n)
	}
	return major, n, nil
}

func (d *decoder) take(n uint64) ([]byte, error) {
	if n > uint64(len(d.rest)) {
		return nil, errShort
	}
	out := d.rest[:n:n]
	d.rest = d.rest[n:]
	return out, nil
}

func (d *decoder) value(depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("cbor: nested deeper than %d", maxDepth)
	}
	major, n, err := d.head()
	if err != nil {
		return nil, err
	}
	switch major {
	case majorUint:
		if n > math.MaxInt64 {
			return n, nil
		}
		return int64(n), nil
	case majorNeg:
		if n > math.MaxInt64 {
			return nil, errors.New("cbor: an integer below -2^63")
		}
		return -1 - int64(n), nil
	case majorBytes:
		return d.take(n)
	case majorText:
		return d.text(n)
	case majorArray:
		return d.array(n, depth)
	case majorMap:
		return d.mapping(n, depth)
	case majorTag:
		v, err := d.value(depth + 1)
		return Tag{n, v}, err
	}
	switch n {
	case simpleFalse:
		return false, nil
	case simpleTrue:
		return true, nil
	}
	return nil, fmt.Errorf("cbor: simple value or float %d", n)
}

func (d *decoder) text(n uint64) (any, error) {
	raw, err := d.take(n)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(raw) {
		return nil, errors.New("cbor: text is not UTF-8")
	}
	return string(raw), nil
}

func (d *decoder) array(n uint64, depth int) (any, error) {
	if n > uint64(len(d.rest)) { // each element takes a byte at least
		return nil, errShort
	}
	out := []any{}
	for range n {
		v, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func (d *decoder) mapping(n uint64, depth int) (any, error) {
	if n > uint64(len(d.rest))/2 {
		return nil, errShort
	}
	out := Map{}
	var last []byte
	for i := range n {
		before := d.rest
		key, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		switch key.(type) {
		case int64, uint64, string:
		default:
			return nil, fmt.Errorf("cbor: a key of type %T", key)
		}
		raw := before[:len(before)-len(d.rest)]
		if i > 0 && bytes.Compare(last, raw) >= 0 {
			return nil, errors.New("cbor: keys are out of order, or one stands twice")
		}
		last = raw
		v, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		out = append(out, Pair{key, v})
	}
	return out, nil
}
