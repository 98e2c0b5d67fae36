package strictjson

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"math"
	"slices"
	"strconv"
)

// maxSafe is the largest integer that every JSON reader keeps exactly
// (RFC 8259 section 6, RFC 7493 section 2.2).
const maxSafe = 1<<53 - 1

// checker holds a text against the form of the Go type that will receive it.
type checker struct {
	text
	left  int      // values that may still come
	loose bool     // lets unknown fields pass
	keys  [][]byte // of the objects that are open, escapes resolved
	room  [16][]byte
}

// value checks the next value.
func (c *checker) value(f *form, depth int) error {
	if c.left--; c.left < 0 {
		return misfitf("too many values")
	}
	null := f.null
	for f.kind == formPointer {
		f, null = f.elem, true
	}
	switch first := c.peek(); first {
	case '{':
		return c.object(f, depth)
	case '[':
		return c.array(f, depth)
	case '"':
		return c.string(f)
	case 'n':
		return cmp.Or(c.word("null"), f.want(null, "null"))
	case 't':
		return cmp.Or(c.word("true"), f.want(f.kind == formValue, "true"))
	case 'f':
		return cmp.Or(c.word("false"), f.want(f.kind == formValue, "false"))
	}
	n, err := c.number()
	if err == nil && f.exact && !safe(n) {
		return misfitf("number beyond 2^53")
	}
	return cmp.Or(err, f.want(f.kind == formValue, "number"))
}

// safe says whether a float64 keeps a number as every other reader does.
func safe(n []byte) bool {
	if len(n) <= 15 && !bytes.ContainsAny(n, ".eE") {
		return true
	}
	f, err := strconv.ParseFloat(string(n), 64)
	return err == nil && math.Abs(f) <= maxSafe
}

func (c *checker) string(f *form) error {
	raw, plain, err := c.str()
	switch {
	case err != nil:
		return err
	case !plain && lone(raw):
		return errSurrogate
	case f.kind == formBytes:
		return canonicalBase64(resolved(raw, plain))
	}
	return f.want(f.kind == formValue, "string")
}

func canonicalBase64(s []byte) error {
	raw := make([]byte, base64.StdEncoding.DecodedLen(len(s)))
	if _, err := base64.StdEncoding.Strict().Decode(raw, s); err != nil || bytes.ContainsAny(s, "\r\n") {
		return misfitf("not canonical base64")
	}
	return nil
}

func (c *checker) object(f *form, depth int) error {
	if err := f.want(f.kind == formValue || f.kind == formStruct || f.kind == formMap, "object"); err != nil {
		return err
	}
	if depth == 0 {
		return misfitf("nested too deeply")
	}
	c.at++
	if c.peek() == '}' {
		c.at++
		return nil
	}
	if c.keys == nil {
		c.keys = c.room[:0]
	}
	first := len(c.keys)
	defer func() { c.keys = c.keys[:first] }()
	var many map[string]bool // of an object with so many keys that going through them takes long
	for {
		key, err := c.key()
		if err != nil {
			return err
		}
		if many, err = c.once(key, first, many); err != nil {
			return err
		}
		inner, err := f.member(key, c.loose)
		if err != nil {
			return err
		}
		if err := c.value(inner, depth-1); err != nil {
			return within(err, func() string { return "." + clip(key) })
		}
		switch c.peek() {
		case ',':
			c.at++
		case '}':
			c.at++
			return nil
		default:
			return errSyntax
		}
	}
}

// key reads a key and its colon.
func (c *checker) key() ([]byte, error) {
	if c.peek() != '"' {
		return nil, errSyntax
	}
	raw, plain, err := c.str()
	if err != nil {
		return nil, err
	}
	if !plain && lone(raw) {
		return nil, errSurrogate
	}
	key := resolved(raw, plain)
	if c.peek() != ':' {
		return nil, errSyntax
	}
	c.at++
	return key, nil
}

// fewKeys is how many keys of an object are compared one by one.
const fewKeys = 16

// once refuses the second key of an object that says the same.
func (c *checker) once(key []byte, first int, many map[string]bool) (map[string]bool, error) {
	if many == nil && len(c.keys)-first < fewKeys {
		if slices.ContainsFunc(c.keys[first:], func(k []byte) bool { return bytes.Equal(k, key) }) {
			return nil, misfitf("duplicate key %q", clip(key))
		}
		c.keys = append(c.keys, key)
		return nil, nil
	}
	if many == nil {
		many = map[string]bool{}
		for _, k := range c.keys[first:] {
			many[string(k)] = true
		}
	}
	if many[string(key)] {
		return nil, misfitf("duplicate key %q", clip(key))
	}
	many[string(key)] = true
	return many, nil
}

func (c *checker) array(f *form, depth int) error {
	if err := f.want(f.kind == formValue || f.kind == formList || f.kind == formBytes, "array"); err != nil {
		return err
	}
	if depth == 0 {
		return misfitf("nested too deeply")
	}
	c.at++
	n := 0
	for more := c.peek() != ']'; more; n++ {
		if f.most != 0 && n >= f.most {
			return misfitf("more than %d elements", f.most)
		}
		if err := c.value(f.elem, depth-1); err != nil {
			return within(err, func() string { return "[" + strconv.Itoa(n) + "]" })
		}
		switch c.peek() {
		case ',':
			c.at++
		case ']':
			more = false
		default:
			return errSyntax
		}
	}
	c.at++
	if f.length >= 0 && n != f.length {
		return misfitf("%d elements, want %d", n, f.length)
	}
	return nil
}
