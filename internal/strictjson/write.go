package strictjson

import (
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
)

// writable returns a struct's fields in the order of their names, or nil where
// encoding/json does more with one of them than to write it or leave it out.
func (f *form) writable(t reflect.Type) []field {
	if f.as != asStruct || writesItself(t) || len(f.fields) == 0 {
		return nil
	}
	for _, field := range f.fields {
		_, options, _ := strings.Cut(t.Field(field.index).Tag.Get("json"), ",")
		if field.form == nil || !plainName(field.name) || options != "" && options != "omitempty" {
			return nil
		}
	}
	sorted := slices.Clone(f.fields)
	slices.SortFunc(sorted, func(a, b field) int { return strings.Compare(a.name, b.name) })
	return sorted
}

func writesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Marshaler]()) || p.Implements(reflect.TypeFor[encoding.TextMarshaler]())
}

// plainName says whether a field's name is one for encoding/json too.
func plainName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// appendStruct adds a struct that writable has found to be one.
func appendStruct(dst []byte, f *form, v reflect.Value) ([]byte, error) {
	dst = append(dst, '{')
	begin := len(dst)
	for _, field := range f.sorted {
		value := v.Field(field.index)
		if !field.empty && isEmpty(value) {
			continue
		}
		if len(dst) > begin {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '"'), field.name...), '"', ':')
		var err error
		if dst, err = appendReflected(dst, field.form, value); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

// appendReflected adds a field or an element. What it does not know goes to Append.
func appendReflected(dst []byte, f *form, v reflect.Value) ([]byte, error) {
	switch {
	case f.as == asPointer && !writesItself(v.Type().Elem()):
		if v.IsNil() {
			return append(dst, "null"...), nil
		}
		return appendReflected(dst, f.elem, v.Elem())
	case f.as == asString && !writesItself(v.Type()):
		return AppendString(dst, v.String()), nil
	case f.as == asStruct && f.sorted != nil:
		return appendStruct(dst, f, v)
	case f.as == asList && !v.IsNil() && !writesItself(v.Type()):
		dst = append(dst, '[')
		for i := range v.Len() {
			if i > 0 {
				dst = append(dst, ',')
			}
			var err error
			if dst, err = appendReflected(dst, f.elem, v.Index(i)); err != nil {
				return nil, err
			}
		}
		return append(dst, ']'), nil
	case v.CanAddr() && writesItself(v.Type()):
		return Append(dst, v.Addr().Interface())
	}
	return Append(dst, v.Interface())
}

// isEmpty is what encoding/json leaves out with omitempty.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr,
		reflect.Float32, reflect.Float64, reflect.Interface, reflect.Pointer:
		return v.IsZero()
	}
	return false
}
