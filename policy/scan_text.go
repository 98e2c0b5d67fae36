package policy

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf16"
)

// str reads a string and returns what stands between its quotes (RFC 8259
// section 7). The text is known to be UTF-8.
func (s *scanner) str() ([]byte, error) {
	s.at++
	begin := s.at
	for s.at < len(s.text) {
		switch c := s.text[s.at]; {
		case c == '"':
			s.at++
			return s.text[begin : s.at-1], nil
		case c < 0x20:
			return nil, fmt.Errorf("%w: control character at byte %d", errInputForm, s.at)
		case c != '\\':
			s.at++
		default:
			if err := s.escape(); err != nil {
				return nil, err
			}
		}
	}
	return nil, fmt.Errorf("%w: unfinished string", errInputForm)
}

// escape reads one escape. Surrogates must come in pairs: readers differ about
// lone ones.
func (s *scanner) escape() error {
	rest := s.text[s.at+1:]
	if len(rest) == 0 || bytes.IndexByte([]byte(`"\/bfnrtu`), rest[0]) < 0 {
		return fmt.Errorf("%w: escape at byte %d", errInputForm, s.at)
	}
	if rest[0] != 'u' {
		s.at += 2
		return nil
	}
	r, ok := hexRune(rest[1:])
	if !ok {
		return fmt.Errorf("%w: escape at byte %d", errInputForm, s.at)
	}
	s.at += 6
	if !utf16.IsSurrogate(r) {
		return nil
	}
	if rest = s.text[s.at:]; len(rest) >= 6 && rest[0] == '\\' && rest[1] == 'u' {
		if low, ok := hexRune(rest[2:]); ok && utf16.DecodeRune(r, low) != '\ufffd' {
			s.at += 6
			return nil
		}
	}
	return errors.New("decision input: lone surrogate")
}

func hexRune(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var r rune
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

// resolve gives a key without its escapes.
func resolve(raw []byte) []byte {
	var out []byte
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			out = append(out, raw[i])
			continue
		}
		i++
		switch raw[i] {
		case 'u':
			r, _ := hexRune(raw[i+1:])
			i += 4
			if utf16.IsSurrogate(r) {
				low, _ := hexRune(raw[i+3:])
				r = utf16.DecodeRune(r, low)
				i += 6
			}
			out = append(out, string(r)...)
		default:
			out = append(out, "\b\f\n\r\t\"\\/"[bytes.IndexByte([]byte(`bfnrt"\/`), raw[i])])
		}
	}
	return out
}

// number reads a number (RFC 8259 section 6) that a float64 can hold: readers
// differ about integers beyond 2^53.
func (s *scanner) number() error {
	begin := s.at
	if s.text[s.at] == '-' {
		s.at++
	}
	whole := s.digits()
	if whole == 0 || whole > 1 && s.text[s.at-whole] == '0' {
		return fmt.Errorf("%w: number at byte %d", errInputForm, begin)
	}
	small := whole <= 15
	if s.at < len(s.text) && s.text[s.at] == '.' {
		s.at++
		if s.digits() == 0 {
			return fmt.Errorf("%w: number at byte %d", errInputForm, begin)
		}
	}
	if s.at < len(s.text) && (s.text[s.at] == 'e' || s.text[s.at] == 'E') {
		small = false
		s.at++
		if s.at < len(s.text) && (s.text[s.at] == '+' || s.text[s.at] == '-') {
			s.at++
		}
		if s.digits() == 0 {
			return fmt.Errorf("%w: number at byte %d", errInputForm, begin)
		}
	}
	if small {
		return nil
	}
	f, err := strconv.ParseFloat(string(s.text[begin:s.at]), 64)
	if err != nil || f > 1<<53-1 || f < -(1<<53-1) {
		return errors.New("decision input: number beyond 2^53")
	}
	return nil
}

func (s *scanner) digits() int {
	begin := s.at
	for s.at < len(s.text) && '0' <= s.text[s.at] && s.text[s.at] <= '9' {
		s.at++
	}
	return s.at - begin
}
