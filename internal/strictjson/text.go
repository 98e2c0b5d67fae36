package strictjson

import (
	"bytes"
	"errors"
	"unicode/utf16"
	"unicode/utf8"
)

// text is JSON that is being read (RFC 8259). What it accepts, encoding/json
// accepts as well.
type text struct {
	b  []byte
	at int
}

var (
	errSyntax    = errors.New("json: not one complete value")
	errSurrogate = errors.New("json: lone surrogate")
)

func (t *text) space() {
	for t.at < len(t.b) {
		switch t.b[t.at] {
		case ' ', '\n', '\t', '\r':
			t.at++
		default:
			return
		}
	}
}

// peek is the next byte that is no space, or 0.
func (t *text) peek() byte {
	if t.space(); t.at < len(t.b) {
		return t.b[t.at]
	}
	return 0
}

// word reads true, false or null.
func (t *text) word(w string) error {
	if !bytes.HasPrefix(t.b[t.at:], []byte(w)) {
		return errSyntax
	}
	t.at += len(w)
	return nil
}

// number reads a number and returns its text.
func (t *text) number() ([]byte, error) {
	begin := t.at
	if t.next('-') && t.at == len(t.b) {
		return nil, errSyntax
	}
	if !t.next('0') && !t.digits() {
		return nil, errSyntax
	}
	if t.next('.') && !t.digits() {
		return nil, errSyntax
	}
	if t.next('e') || t.next('E') {
		if !t.next('+') {
			t.next('-')
		}
		if !t.digits() {
			return nil, errSyntax
		}
	}
	return t.b[begin:t.at], nil
}

// next passes one byte, if it is c.
func (t *text) next(c byte) bool {
	if t.at < len(t.b) && t.b[t.at] == c {
		t.at++
		return true
	}
	return false
}

func (t *text) digits() bool {
	begin := t.at
	for t.at < len(t.b) && '0' <= t.b[t.at] && t.b[t.at] <= '9' {
		t.at++
	}
	return t.at > begin
}

// str reads a string and returns what stands between its quotes, and whether
// that is plain, so that it stands for itself. Lone surrogates are its caller's.
func (t *text) str() (raw []byte, plain bool, err error) {
	t.at++ // the quote
	begin := t.at
	plain = true
	for t.at += run(t.b[t.at:], false); t.at < len(t.b); t.at += run(t.b[t.at:], false) {
		switch c := t.b[t.at]; {
		case c == '"':
			t.at++
			return t.b[begin : t.at-1], plain, nil
		case c < 0x20:
			return nil, false, errSyntax
		case !t.escape():
			return nil, false, errSyntax
		default:
			plain = false
		}
	}
	return nil, false, errSyntax
}

// escape passes a backslash and what belongs to it.
func (t *text) escape() bool {
	if t.at+1 >= len(t.b) {
		return false
	}
	switch t.b[t.at+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		t.at += 2
		return true
	case 'u':
		if _, ok := hex4(t.b[t.at+2:]); ok {
			t.at += 6
			return true
		}
	}
	return false
}

// hex4 reads the four digits of an escape.
func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// unescape is the rune at the beginning of a string's raw text, and how many
// bytes it takes there. A surrogate that is not half of a pair is
// utf8.RuneError, of six bytes.
func unescape(raw []byte) (r rune, n int) {
	if raw[0] != '\\' {
		return utf8.DecodeRune(raw)
	}
	switch c := raw[1]; c {
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
	default:
		return rune(c), 2
	}
	r, _ = hex4(raw[2:])
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if len(raw) >= 12 && raw[6] == '\\' && raw[7] == 'u' {
		low, _ := hex4(raw[8:])
		if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
			return pair, 12
		}
	}
	return utf8.RuneError, 6
}

// lone says whether a string's raw text has an escaped surrogate that is not
// half of a pair: decoders read those differently.
func lone(raw []byte) bool {
	for {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 {
			return false
		}
		r, n := unescape(raw[i:])
		if said, _ := hex4(raw[i+min(n, 2):]); r == utf8.RuneError && n == 6 && said != r {
			return true
		}
		raw = raw[i+n:]
	}
}

// resolved is a string's raw text with its escapes resolved. What is plain and
// valid stays where it is.
func resolved(raw []byte, plain bool) []byte {
	if plain && utf8.Valid(raw) {
		return raw
	}
	s := make([]byte, 0, len(raw))
	for len(raw) > 0 {
		r, n := unescape(raw)
		s, raw = utf8.AppendRune(s, r), raw[n:]
	}
	return s
}
