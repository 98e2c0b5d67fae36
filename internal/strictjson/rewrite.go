package strictjson

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
)

// maxNesting is encoding/json's own bound; recursion ends there.
const maxNesting = 10_000

// rewriter puts a text into its canonical form.
type rewriter struct {
	text
	members []member // of the objects that are open
	spare   []byte
}

// member is one member of an object that has been written.
type member struct {
	key      []byte // escapes resolved
	from, to int    // where it stands
}

// appendText adds the canonical form of a text to dst. Of members with one key
// the last one stays, as in everything that encoding/json has read.
func appendText(dst, b []byte) ([]byte, error) {
	r := rewriter{text: text{b: b}}
	dst, err := r.value(slices.Grow(dst, len(b)), maxNesting)
	if r.space(); r.at != len(b) {
		err = cmp.Or(err, errSyntax)
	}
	if err != nil {
		return nil, fmt.Errorf("canonical json: %w", err)
	}
	return dst, nil
}

func (r *rewriter) value(dst []byte, depth int) ([]byte, error) {
	if depth < 0 {
		return nil, misfitf("nested too deeply")
	}
	switch r.peek() {
	case '{':
		return r.object(dst, depth-1)
	case '[':
		return r.array(dst, depth-1)
	case '"':
		raw, _, err := r.str()
		return appendQuoted(dst, raw), err
	case 't':
		return append(dst, "true"...), r.word("true")
	case 'f':
		return append(dst, "false"...), r.word("false")
	case 'n':
		return append(dst, "null"...), r.word("null")
	}
	n, err := r.number()
	return append(dst, n...), err
}

// appendQuoted adds a string's raw text in its canonical form.
func appendQuoted(dst, raw []byte) []byte {
	dst = append(dst, '"')
	for len(raw) > 0 {
		n := run(raw, true)
		dst, raw = append(dst, raw[:n]...), raw[n:]
		if len(raw) > 0 {
			c, n := unescape(raw)
			dst, raw = appendRune(dst, c), raw[n:]
		}
	}
	return append(dst, '"')
}

func (r *rewriter) array(dst []byte, depth int) ([]byte, error) {
	r.at++
	dst = append(dst, '[')
	if r.peek() == ']' {
		r.at++
		return append(dst, ']'), nil
	}
	for {
		var err error
		if dst, err = r.value(dst, depth); err != nil {
			return nil, err
		}
		switch c := r.peek(); c {
		case ',':
			r.at++
			dst = append(dst, ',')
		case ']':
			r.at++
			return append(dst, ']'), nil
		default:
			return nil, errSyntax
		}
	}
}

func (r *rewriter) object(dst []byte, depth int) ([]byte, error) {
	r.at++
	dst = append(dst, '{')
	if r.peek() == '}' {
		r.at++
		return append(dst, '}'), nil
	}
	first, begin, sorted := len(r.members), len(dst), true
	for {
		if r.peek() != '"' {
			return nil, errSyntax
		}
		raw, plain, err := r.str()
		if err != nil {
			return nil, err
		}
		m := member{key: resolved(raw, plain), from: len(dst)}
		dst = append(appendQuoted(dst, raw), ':')
		if r.peek() != ':' {
			return nil, errSyntax
		}
		r.at++
		if dst, err = r.value(dst, depth); err != nil {
			return nil, err
		}
		m.to = len(dst)
		sorted = sorted && (len(r.members) == first || bytes.Compare(r.members[len(r.members)-1].key, m.key) < 0)
		r.members = append(r.members, m)
		switch r.peek() {
		case ',':
			r.at++
			dst = append(dst, ',')
		case '}':
			r.at++
			if !sorted {
				dst = r.sort(dst, begin, r.members[first:])
			}
			r.members = r.members[:first]
			return append(dst, '}'), nil
		default:
			return nil, errSyntax
		}
	}
}

// sort puts the members of an object, which stand from begin on, in order.
func (r *rewriter) sort(dst []byte, begin int, members []member) []byte {
	slices.SortStableFunc(members, func(a, b member) int { return bytes.Compare(a.key, b.key) })
	r.spare = append(r.spare[:0], dst[begin:]...)
	dst = dst[:begin]
	for i, m := range members {
		if i+1 < len(members) && bytes.Equal(m.key, members[i+1].key) {
			continue
		}
		if len(dst) > begin {
			dst = append(dst, ',')
		}
		dst = append(dst, r.spare[m.from-begin:m.to-begin]...)
	}
	return dst
}
