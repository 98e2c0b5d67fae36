package cbor

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strings"
)

// ToValue turns a struct into a Map with the names that its JSON form has, so
// that both forms say the same: arrays and slices of bytes become byte strings,
// what else has a text form becomes text. Fields with omitempty or omitzero are
// left out where they are zero.
func ToValue(v any) (any, error) { return toValue(reflect.ValueOf(v)) }

func toValue(v reflect.Value) (any, error) {
	if isBytes(v.Type()) {
		out := make([]byte, v.Len())
		reflect.Copy(reflect.ValueOf(out), v)
		return out, nil
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		return string(text), err
	}
	switch v.Kind() {
	case reflect.Bool:
		return v.Bool(), nil
	case reflect.String:
		return v.String(), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return v.Int(), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return v.Uint(), nil
	case reflect.Pointer:
		if v.IsNil() {
			return nil, fmt.Errorf("cbor: a nil %s", v.Type())
		}
		return toValue(v.Elem())
	case reflect.Slice, reflect.Array:
		out := make([]any, v.Len())
		for i := range out {
			var err error
			if out[i], err = toValue(v.Index(i)); err != nil {
				return nil, err
			}
		}
		return out, nil
	case reflect.Struct:
		return structValue(v)
	}
	return nil, fmt.Errorf("cbor: a value of type %s", v.Type())
}

func structValue(v reflect.Value) (any, error) {
	out := Map{}
	for i := range v.NumField() {
		name, optional := fieldName(v.Type().Field(i))
		if name == "" || optional && v.Field(i).IsZero() {
			continue
		}
		value, err := toValue(v.Field(i))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, Pair{name, value})
	}
	return out, nil
}

// fieldName is the name of a field in JSON; empty for one that has none.
func fieldName(f reflect.StructField) (name string, optional bool) {
	name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "-" || !f.IsExported() {
		return "", false
	}
	if name == "" {
		name = f.Name
	}
	return name, strings.Contains(options, "omit")
}

func isBytes(t reflect.Type) bool {
	return (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) && t.Elem().Kind() == reflect.Uint8
}

// FromValue fills the struct that dst points to from what ToValue made. A field
// that it does not have is refused; one that is not there stays as it is.
func FromValue(v, dst any) error {
	p := reflect.ValueOf(dst)
	if p.Kind() != reflect.Pointer || p.IsNil() {
		return fmt.Errorf("cbor: %T is not a pointer", dst)
	}
	return fromValue(v, p.Elem())
}

func fromValue(v any, dst reflect.Value) error {
	if isBytes(dst.Type()) {
		return fromBytes(v, dst)
	}
	if m, ok := dst.Addr().Interface().(encoding.TextUnmarshaler); ok {
		text, isText := v.(string)
		if !isText {
			return wrong(v, dst)
		}
		return m.UnmarshalText([]byte(text))
	}
	switch dst.Kind() {
	case reflect.Bool, reflect.String:
		got := reflect.ValueOf(v)
		if got.Kind() != dst.Kind() {
			return wrong(v, dst)
		}
		dst.Set(got.Convert(dst.Type()))
		return nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return fromInt(v, dst)
	case reflect.Pointer:
		dst.Set(reflect.New(dst.Type().Elem()))
		return fromValue(v, dst.Elem())
	case reflect.Slice:
		return fromArray(v, dst)
	case reflect.Struct:
		return fromMap(v, dst)
	}
	return wrong(v, dst)
}

func fromBytes(v any, dst reflect.Value) error {
	b, ok := v.([]byte)
	if !ok {
		return wrong(v, dst)
	}
	if dst.Kind() == reflect.Slice {
		dst.SetBytes(append(make([]byte, 0, len(b)), b...))
		return nil
	}
	if len(b) != dst.Len() {
		return fmt.Errorf("cbor: %d bytes, want %d", len(b), dst.Len())
	}
	reflect.Copy(dst, reflect.ValueOf(b))
	return nil
}

func fromInt(v any, dst reflect.Value) error {
	signed, isSigned := v.(int64)
	unsigned, isUnsigned := v.(uint64)
	if isSigned && signed >= 0 {
		unsigned, isUnsigned = uint64(signed), true
	}
	if dst.CanInt() {
		if !isSigned || dst.OverflowInt(signed) {
			return wrong(v, dst)
		}
		dst.SetInt(signed)
		return nil
	}
	if !isUnsigned || unsigned > math.MaxInt64 && dst.Kind() != reflect.Uint64 || dst.OverflowUint(unsigned) {
		return wrong(v, dst)
	}
	dst.SetUint(unsigned)
	return nil
}

func fromArray(v any, dst reflect.Value) error {
	list, ok := v.([]any)
	if !ok {
		return wrong(v, dst)
	}
	dst.Set(reflect.MakeSlice(dst.Type(), len(list), len(list)))
	for i, e := range list {
		if err := fromValue(e, dst.Index(i)); err != nil {
			return fmt.Errorf("%d: %w", i, err)
		}
	}
	return nil
}

func fromMap(v any, dst reflect.Value) error {
	m, ok := v.(Map)
	if !ok {
		return wrong(v, dst)
	}
	fields := map[string]reflect.Value{}
	for i := range dst.NumField() {
		if name, _ := fieldName(dst.Type().Field(i)); name != "" {
			fields[name] = dst.Field(i)
		}
	}
	for _, p := range m {
		name, _ := p.Key.(string)
		field, known := fields[name]
		if !known {
			return fmt.Errorf("cbor: field %.40v is not known", p.Key)
		}
		if err := fromValue(p.Value, field); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func wrong(v any, dst reflect.Value) error {
	return fmt.Errorf("cbor: %T where %s is wanted", v, dst.Type())
}
