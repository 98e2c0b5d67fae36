package strictjson

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"sync"
)

// kind is what JSON a form takes.
type kind byte

const (
	formValue   kind = iota // any value; encoding/json says the rest
	formPointer             // null, or elem
	formStruct              // an object of fields
	formMap                 // an object of elem
	formList                // an array of elem
	formBytes               // base64, or an array of elem
)

// form is what the JSON for one Go type must look like.
type form struct {
	kind   kind
	null   bool // whether it may be null
	exact  bool // whether a float64 must keep its numbers
	length int  // of an array, -1 for any
	elem   *form
	fields map[string]*form // nil for a name that stands for two fields
}

// forms is the table of forms by type. It fills itself: to read a type anew for
// each message took longer than to read the message.
var forms sync.Map

// anything is the form of what nobody looks into.
var anything = valueForm(false)

// valueForm is a value whose parts have its own form.
func valueForm(exact bool) *form {
	f := &form{kind: formValue, null: true, exact: exact, length: -1}
	f.elem = f
	return f
}

func formOf(t reflect.Type) *form {
	if f, ok := forms.Load(t); ok {
		return f.(*form)
	}
	f := build(t, map[reflect.Type]*form{})
	forms.Store(t, f)
	return f
}

// build makes the form of a type; types that hold themselves are in made.
func build(t reflect.Type, made map[reflect.Type]*form) *form {
	if f := made[t]; f != nil {
		return f
	}
	f := &form{length: -1}
	made[t] = f
	if decodesItself(t) {
		*f = *anything
		return f
	}
	switch t.Kind() {
	case reflect.Pointer:
		f.kind, f.null, f.elem = formPointer, true, build(t.Elem(), made)
	case reflect.Interface:
		*f = *valueForm(true)
	case reflect.Struct:
		f.kind, f.fields = formStruct, map[string]*form{}
		f.collect(t, made)
	case reflect.Map:
		f.kind, f.null, f.elem = formMap, true, build(t.Elem(), made)
	case reflect.Slice:
		f.kind, f.null, f.elem = formList, true, build(t.Elem(), made)
		if t.Elem().Kind() == reflect.Uint8 {
			f.kind = formBytes
		}
	case reflect.Array:
		f.kind, f.length, f.elem = formList, t.Len(), build(t.Elem(), made)
	default:
		*f = *valueForm(t.Kind() == reflect.Float64 || t.Kind() == reflect.Float32)
		f.null = false
	}
	return f
}

// decodesItself reports types that read their own JSON; their rules are theirs.
func decodesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) ||
		p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) ||
		t == reflect.TypeFor[json.Number]()
}

// collect lists the JSON names of a struct, those of embedded structs included.
func (f *form) collect(t reflect.Type, made map[reflect.Type]*form) {
	for i := range t.NumField() {
		field := t.Field(i)
		tag := field.Tag.Get("json")
		name, _, _ := strings.Cut(tag, ",")
		if tag == "-" {
			continue
		}
		if field.Anonymous && name == "" {
			e := field.Type
			if e.Kind() == reflect.Pointer {
				e = e.Elem()
			}
			if e.Kind() == reflect.Struct {
				f.collect(e, made)
				continue
			}
		}
		if !field.IsExported() {
			continue
		}
		if name == "" {
			name = field.Name
		}
		if _, twice := f.fields[name]; twice {
			f.fields[name] = nil
			continue
		}
		f.fields[name] = build(field.Type, made)
	}
}

// want is the misfit of a value that a form does not take.
func (f *form) want(ok bool, what string) error {
	switch {
	case ok:
		return nil
	case f.kind == formStruct || f.kind == formMap:
		what = "not an object"
	case f.kind == formList || f.kind == formBytes:
		what = "not an array"
	}
	return &misfit{what: what}
}

// member is the form of a key's value.
func (f *form) member(key []byte, loose bool) (*form, error) {
	if f.kind != formStruct {
		return f.elem, nil
	}
	if field := f.fields[string(key)]; field != nil {
		return field, nil
	}
	if !loose || f.foldsToAny(string(key)) {
		return nil, misfitf("unknown field %q", clip(key))
	}
	return anything, nil
}

// foldsToAny reports a key that encoding/json would store in a known field
// although the name differs by case.
func (f *form) foldsToAny(key string) bool {
	for name := range f.fields {
		if strings.EqualFold(key, name) {
			return true
		}
	}
	return false
}
