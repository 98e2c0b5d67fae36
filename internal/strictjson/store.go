package strictjson

import (
	"encoding"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
)

// storer reads a text that has been checked into a value. It does what
// encoding/json does, for the types that messages are made of; it hands the rest
// to it, part by part.
type storer struct{ text }

// store reads the next value into v, whose form is f.
func (s *storer) store(f *form, v reflect.Value) error {
	first := s.peek()
	switch f.as {
	case asRaw:
		*(v.Addr().Interface().(*json.RawMessage)) = slices.Clone(s.pass())
		return nil
	case asAny:
		got, err := s.any()
		if err != nil || got == nil {
			v.SetZero()
			return err
		}
		v.Set(reflect.ValueOf(got))
		return nil
	case asString:
		if first == '"' {
			v.SetString(s.string())
			return nil
		}
	case asBytes:
		if first == '"' {
			return s.bytes(v)
		}
	case asText:
		if first == '"' {
			if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s.string())); err != nil {
				return fmt.Errorf("json: %w", err)
			}
			return nil
		}
	case asStruct:
		if first == '{' {
			return s.fields(f, v)
		}
	case asPointer:
		if first == 'n' {
			s.pass()
			v.SetZero()
			return nil
		}
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		return s.store(f.elem, v.Elem())
	case asList:
		if first == '[' && v.IsNil() {
			return s.list(f, v)
		}
	case asRaws:
		if first == '{' {
			m := v.Addr().Interface().(*map[string]json.RawMessage)
			if *m == nil {
				*m = map[string]json.RawMessage{}
			}
			return s.each(func(key []byte) error {
				(*m)[string(key)] = slices.Clone(s.pass())
				return nil
			})
		}
	case asAnys:
		if m := v.Addr().Interface().(*map[string]any); first == '{' && *m == nil {
			got, err := s.any()
			*m, _ = got.(map[string]any)
			return err
		}
	}
	if err := json.Unmarshal(s.pass(), v.Addr().Interface()); err != nil {
		return fmt.Errorf("json: %w", err)
	}
	return nil
}

func (s *storer) fields(f *form, v reflect.Value) error {
	return s.each(func(key []byte) error {
		field := f.field(key)
		if field == nil {
			s.pass()
			return nil
		}
		return s.store(field.form, v.Field(field.index))
	})
}

// bytes reads base64 into a slice.
func (s *storer) bytes(v reflect.Value) error {
	b, err := base64.StdEncoding.DecodeString(s.string())
	if err != nil {
		return fmt.Errorf("json: %w", err)
	}
	v.SetBytes(b)
	return nil
}

// list reads an array into a slice that is nil.
func (s *storer) list(f *form, v reflect.Value) error {
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	s.at++
	for n := 0; s.peek() != ']'; n++ {
		s.next(',')
		v.Grow(1)
		v.SetLen(n + 1)
		if err := s.store(f.elem, v.Index(n)); err != nil {
			return err
		}
	}
	s.at++
	return nil
}

// each calls do for each member of an object, which reads its value.
func (s *storer) each(do func(key []byte) error) error {
	s.at++
	for s.peek() != '}' {
		s.next(',')
		s.space()
		raw, plain, err := s.str()
		if err != nil {
			return err
		}
		s.peek() // the colon
		s.at++
		s.space()
		if err := do(resolved(raw, plain)); err != nil {
			return err
		}
	}
	s.at++
	return nil
}

func (s *storer) string() string {
	raw, plain, _ := s.str() // it has been checked
	return string(resolved(raw, plain))
}

// pass goes over the next value and returns its text.
func (s *storer) pass() []byte {
	begin, depth := s.at, 0
	for s.at < len(s.b) {
		switch s.b[s.at] {
		case '"':
			_, _, _ = s.str() // it has been checked
			if depth == 0 {
				return s.b[begin:s.at]
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth < 0 { // of what holds the value
				return s.b[begin:s.at]
			}
			if depth == 0 {
				s.at++
				return s.b[begin:s.at]
			}
		case ',', ' ', '\n', '\t', '\r':
			if depth == 0 {
				return s.b[begin:s.at]
			}
		}
		s.at++
	}
	return s.b[begin:s.at]
}

// any reads the next value as encoding/json does into an interface.
func (s *storer) any() (any, error) {
	switch s.peek() {
	case '{':
		m := map[string]any{}
		err := s.each(func(key []byte) (err error) {
			m[string(key)], err = s.any()
			return err
		})
		return m, err
	case '[':
		list := []any{}
		s.at++
		for s.peek() != ']' {
			s.next(',')
			e, err := s.any()
			if err != nil {
				return nil, err
			}
			list = append(list, e)
		}
		s.at++
		return list, nil
	case '"':
		return s.string(), nil
	}
	switch word := string(s.pass()); word {
	case "null":
		return nil, nil
	case "true", "false":
		return word == "true", nil
	default:
		n, err := strconv.ParseFloat(word, 64)
		if err != nil {
			return nil, fmt.Errorf("json: %w", err)
		}
		return n, nil
	}
}
