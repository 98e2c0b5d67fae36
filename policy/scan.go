package policy

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"
)

// The bounds of one decision input. With them every policy that the document
// alone makes ends soon: its loops run over parts of the input, and OPA's
// objects cost at most the square of their keys when an agent makes them collide.
const (
	maxInputDepth  = 32
	maxInputValues = 8192
	maxInputKeys   = 512 // of one object
)

// A scanner checks a decision input in one pass and keeps nothing of it: one
// reading per text, of the form of Input, within the bounds. What it accepts,
// ParseInput accepts too.
type scanner struct {
	text   []byte
	at     int
	values int
	keys   [][]byte // of the objects that are open, escapes resolved
}

var errInputForm = errors.New("decision input: not of its form")

// form is what a value of the input must be.
type form struct {
	kind   byte // '{' fields, 'm' map of elem, '[' list of elem, 's' string, 'n' number, 'i' whole number, 'o' any object, '*' anything
	elem   *form
	fields []field
}

type field struct {
	name     string
	form     *form
	required bool
}

var (
	formText    = &form{kind: 's'}
	formNumber  = &form{kind: 'n'}
	formTexts   = &form{kind: '[', elem: formText}
	formCount   = &form{kind: 'i'}
	formNumbers = &form{kind: 'm', elem: formNumber}
	formCounts  = &form{kind: 'm', elem: formCount}
	formInput   = &form{kind: '{', fields: []field{
		{"action", formText, true},
		{"agent", &form{kind: '{', fields: []field{{"instance", formText, true}, {"name", formText, true}}}, true},
		{"args", &form{kind: 'o'}, true},
		{"resource", formText, true},
		{"session", formText, false},
		{"state", &form{kind: '{', fields: []field{
			{"approvals", formTexts, false},
			{"budgets", formNumbers, false},
			{"charges", formNumbers, false},
			{"counts", formCounts, true},
			{"endorsed", formTexts, false},
			{"labels", formTexts, true},
			{"narrowed", formTexts, false},
			{"now", formCount, false},
			{"rates", formCounts, false},
			{"session_counts", formCounts, false},
		}}, true},
	}}
	anything = &form{kind: '*'}
)

// check says why a text is no decision input.
func (s *scanner) check(text []byte) error {
	if len(text) > MaxInput {
		return fmt.Errorf("decision input: %d bytes, limit %d", len(text), MaxInput)
	}
	*s = scanner{text: text, keys: s.keys[:0]}
	if !utf8.Valid(text) {
		return errors.New("decision input: invalid UTF-8")
	}
	if err := s.value(formInput, maxInputDepth); err != nil {
		return err
	}
	if s.space(); s.at != len(s.text) {
		return fmt.Errorf("%w: bytes after its end", errInputForm)
	}
	return nil
}

func (s *scanner) space() {
	for s.at < len(s.text) && (s.text[s.at] == ' ' || s.text[s.at] == '\n' || s.text[s.at] == '\t' || s.text[s.at] == '\r') {
		s.at++
	}
}

// peek is the next byte that is no space, or 0.
func (s *scanner) peek() byte {
	if s.space(); s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

func (s *scanner) value(f *form, depth int) error {
	if s.values++; s.values > maxInputValues {
		return errors.New("decision input: too many values")
	}
	c := s.peek()
	want := f.kind
	switch {
	case c == '{' && (want == '{' || want == 'm' || want == 'o' || want == '*'):
		return s.object(f, depth-1)
	case c == '[' && (want == '[' || want == '*'):
		return s.array(f, depth-1)
	case c == '"' && (want == 's' || want == '*'):
		_, err := s.str()
		return err
	case (c == '-' || '0' <= c && c <= '9') && (want == 'n' || want == '*'):
		return s.number()
	case (c == '-' || '0' <= c && c <= '9') && want == 'i':
		begin := s.at
		if err := s.number(); err != nil || !bytes.ContainsAny(s.text[begin:s.at], ".eE") {
			return err
		}
	case want == '*' && (s.word("true") || s.word("false") || s.word("null")):
		return nil
	}
	return fmt.Errorf("%w: byte %d", errInputForm, s.at)
}

func (s *scanner) word(w string) bool {
	if !bytes.HasPrefix(s.text[s.at:], []byte(w)) {
		return false
	}
	s.at += len(w)
	return true
}

func (s *scanner) object(f *form, depth int) error {
	if depth < 0 {
		return errors.New("decision input: nested too deeply")
	}
	s.at++
	first := len(s.keys)
	if s.peek() == '}' {
		s.at++
		return s.complete(f, nil)
	}
	for {
		if s.peek() != '"' {
			return fmt.Errorf("%w: no key at byte %d", errInputForm, s.at)
		}
		key, err := s.str()
		if err != nil {
			return err
		}
		if err := s.key(key, first); err != nil {
			return err
		}
		if s.peek() != ':' {
			return fmt.Errorf("%w: no colon at byte %d", errInputForm, s.at)
		}
		s.at++
		inner := f.of(s.keys[len(s.keys)-1])
		if inner == nil {
			return fmt.Errorf("decision input: unknown field %.80q", key)
		}
		if err := s.value(inner, depth); err != nil {
			return err
		}
		switch s.peek() {
		case ',':
			s.at++
		case '}':
			s.at++
			err := s.complete(f, s.keys[first:])
			s.keys = s.keys[:first]
			return err
		default:
			return fmt.Errorf("%w: byte %d", errInputForm, s.at)
		}
	}
}

// key keeps a key of an open object, with its escapes resolved, and refuses a
// second one like it.
func (s *scanner) key(raw []byte, first int) error {
	if bytes.IndexByte(raw, '\\') >= 0 {
		raw = resolve(raw)
	}
	if len(s.keys)-first >= maxInputKeys {
		return errors.New("decision input: too many keys in an object")
	}
	for _, k := range s.keys[first:] {
		if bytes.Equal(k, raw) {
			return fmt.Errorf("decision input: duplicate key %.80q", raw)
		}
	}
	s.keys = append(s.keys, raw)
	return nil
}

// of is the form of a key's value, nil for an unknown key.
func (f *form) of(key []byte) *form {
	switch f.kind {
	case 'm':
		return f.elem
	case 'o', '*':
		return anything
	}
	for i := range f.fields {
		if f.fields[i].name == string(key) {
			return f.fields[i].form
		}
	}
	return nil
}

// complete says whether every required field is there.
func (s *scanner) complete(f *form, keys [][]byte) error {
	for i := range f.fields {
		if !f.fields[i].required {
			continue
		}
		found := false
		for _, k := range keys {
			found = found || f.fields[i].name == string(k)
		}
		if !found {
			return fmt.Errorf("decision input: no field %q", f.fields[i].name)
		}
	}
	return nil
}

func (s *scanner) array(f *form, depth int) error {
	if depth < 0 {
		return errors.New("decision input: nested too deeply")
	}
	elem := anything
	if f.kind == '[' {
		elem = f.elem
	}
	s.at++
	if s.peek() == ']' {
		s.at++
		return nil
	}
	for {
		if err := s.value(elem, depth); err != nil {
			return err
		}
		switch s.peek() {
		case ',':
			s.at++
		case ']':
			s.at++
			return nil
		default:
			return fmt.Errorf("%w: byte %d", errInputForm, s.at)
		}
	}
}
