package strictjson

import (
	"encoding"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
)

// maxSafe is the largest integer that every JSON reader keeps exactly
// (RFC 8259 section 6, RFC 7493 section 2.2).
const maxSafe = 1<<53 - 1

// shape compares a parsed tree with the Go type that will receive it.
type shape struct{ allowUnknown bool }

func (s shape) check(v any, t reflect.Type, path string) error {
	if decodesItself(t) {
		return nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		if v == nil {
			return nil
		}
		return s.check(v, t.Elem(), path)
	case reflect.Interface:
		return numbers(v, path)
	case reflect.Struct:
		return s.object(v, t, path)
	case reflect.Map:
		return s.dictionary(v, t, path)
	case reflect.Slice, reflect.Array:
		return s.list(v, t, path)
	}
	if v == nil {
		return fmt.Errorf("json: %s: null", clip(path))
	}
	if t.Kind() == reflect.Float64 || t.Kind() == reflect.Float32 {
		return numbers(v, path)
	}
	return nil
}

func (s shape) object(v any, t reflect.Type, path string) error {
	m, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("json: %s: not an object", clip(path))
	}
	fields := map[string]reflect.Type{}
	collect(t, fields)
	for key, e := range m {
		ft, known := fields[key]
		if !known && s.allowUnknown && !foldsToAny(key, fields) {
			continue
		}
		if !known {
			return fmt.Errorf("json: %s: unknown field %q", clip(path), clip(key))
		}
		if err := s.check(e, ft, under(path, key)); err != nil {
			return err
		}
	}
	return nil
}

func (s shape) dictionary(v any, t reflect.Type, path string) error {
	if v == nil {
		return nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("json: %s: not an object", clip(path))
	}
	for key, e := range m {
		if err := s.check(e, t.Elem(), under(path, key)); err != nil {
			return err
		}
	}
	return nil
}

func (s shape) list(v any, t reflect.Type, path string) error {
	if v == nil && t.Kind() == reflect.Slice {
		return nil
	}
	if text, ok := v.(string); ok && t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil || base64.StdEncoding.EncodeToString(raw) != text {
			return fmt.Errorf("json: %s: not canonical base64", clip(path))
		}
		return nil
	}
	a, ok := v.([]any)
	if !ok {
		return fmt.Errorf("json: %s: not an array", clip(path))
	}
	if t.Kind() == reflect.Array && len(a) != t.Len() {
		return fmt.Errorf("json: %s: %d elements, want %d", clip(path), len(a), t.Len())
	}
	for i, e := range a {
		if err := s.check(e, t.Elem(), element(path, i)); err != nil {
			return err
		}
	}
	return nil
}

// numbers refuses integers that a float64 cannot hold exactly.
func numbers(v any, path string) error {
	switch v := v.(type) {
	case json.Number:
		f, err := v.Float64()
		if err != nil || math.Abs(f) > maxSafe {
			return fmt.Errorf("json: %s: number beyond 2^53", clip(path))
		}
	case []any:
		for i, e := range v {
			if err := numbers(e, element(path, i)); err != nil {
				return err
			}
		}
	case map[string]any:
		for key, e := range v {
			if err := numbers(e, under(path, key)); err != nil {
				return err
			}
		}
	}
	return nil
}

// decodesItself reports types that read their own JSON; their rules are theirs.
func decodesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) ||
		p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) ||
		t == reflect.TypeFor[json.Number]()
}

// collect lists the JSON names of a struct, those of embedded structs included.
func collect(t reflect.Type, into map[string]reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Tag.Get("json") == "-" {
			continue
		}
		if f.Anonymous && name == "" {
			e := f.Type
			if e.Kind() == reflect.Pointer {
				e = e.Elem()
			}
			if e.Kind() == reflect.Struct {
				collect(e, into)
				continue
			}
		}
		if !f.IsExported() {
			continue
		}
		if name == "" {
			name = f.Name
		}
		into[name] = f.Type
	}
}

// foldsToAny reports a key that encoding/json would store in a known field
// although the name differs by case.
func foldsToAny(key string, fields map[string]reflect.Type) bool {
	for name := range fields {
		if strings.EqualFold(key, name) {
			return true
		}
	}
	return false
}
