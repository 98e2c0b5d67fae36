package strictjson

import (
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
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

// as is how a value is stored.
type as byte

const (
	asElse    as = iota // by encoding/json
	asString            // string
	asRaw               // json.RawMessage
	asAny               // any
	asRaws              // map[string]json.RawMessage
	asAnys              // map[string]any
	asStruct            // a struct without embedded ones
	asPointer           // a pointer
	asList              // a slice
	asBytes             // []byte
	asText              // an encoding.TextUnmarshaler
)

// form is what the JSON for one Go type must look like.
type form struct {
	kind   kind
	as     as
	null   bool // whether it may be null
	exact  bool // whether a float64 must keep its numbers
	length int  // of an array, -1 for any
	most   int  // elements of a list, 0 for any number
	elem   *form
	fields []field
	sorted []field // the same by name, of a struct that is written here
}

// field is one field of a struct.
type field struct {
	name  string
	index int
	form  *form
	empty bool // whether it is written when it is empty
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
		if t == reflect.TypeFor[json.RawMessage]() {
			f.as = asRaw
		}
		if p := reflect.PointerTo(t); p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) && !p.Implements(reflect.TypeFor[json.Unmarshaler]()) {
			f.as = asText
		}
		return f
	}
	switch t.Kind() {
	case reflect.Pointer:
		f.kind, f.as, f.null, f.elem = formPointer, asPointer, true, build(t.Elem(), made)
	case reflect.Interface:
		*f = *valueForm(true)
		if t == reflect.TypeFor[any]() {
			f.as = asAny
		}
	case reflect.Struct:
		f.kind, f.as = formStruct, asStruct
		f.collect(t, made)
		f.sorted = f.writable(t)
	case reflect.Map:
		f.kind, f.null, f.elem = formMap, true, build(t.Elem(), made)
		switch t {
		case reflect.TypeFor[map[string]any]():
			f.as = asAnys
		case reflect.TypeFor[map[string]json.RawMessage]():
			f.as = asRaws
		}
	case reflect.Slice:
		f.kind, f.as, f.null, f.elem = formList, asList, true, build(t.Elem(), made)
		if t.Elem().Kind() == reflect.Uint8 {
			f.kind, f.as = formBytes, asElse
			if t.Elem() == reflect.TypeFor[byte]() {
				f.as = asBytes
			}
		}
	case reflect.Array:
		f.kind, f.length, f.elem = formList, t.Len(), build(t.Elem(), made)
	default:
		*f = *valueForm(t.Kind() == reflect.Float64 || t.Kind() == reflect.Float32)
		f.null = false
		if t.Kind() == reflect.String {
			f.as = asString
		}
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
		member := t.Field(i)
		tag := member.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		if tag == "-" {
			continue
		}
		if strings.Contains(options, "string") {
			f.as = asElse
		}
		if member.Anonymous && name == "" {
			f.as = asElse // its fields are found by encoding/json
			e := member.Type
			if e.Kind() == reflect.Pointer {
				e = e.Elem()
			}
			if e.Kind() == reflect.Struct {
				f.collect(e, made)
				continue
			}
		}
		if !member.IsExported() {
			continue
		}
		if name == "" {
			name = member.Name
		}
		if other := f.field([]byte(name)); other != nil {
			other.form = nil // what stands for two fields is for none
			continue
		}
		f.fields = append(f.fields, field{name: name, index: i, form: build(member.Type, made).atMost(member.Tag.Get("most")), empty: options != "omitempty"})
	}
}

// atMost is the form of a list with a bound of its own, which is told before
// anything is stored. A bound that is no number takes nothing.
func (f *form) atMost(tag string) *form {
	if tag == "" {
		return f
	}
	bounded := *f
	n, err := strconv.Atoi(tag)
	if err != nil || n < 1 {
		n = -1
	}
	bounded.most = n
	return &bounded
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
	if field := f.field(key); field != nil && field.form != nil {
		return field.form, nil
	}
	if !loose || f.foldsToAny(string(key)) {
		return nil, misfitf("unknown field %q", clip(key))
	}
	return anything, nil
}

// field finds a field by its name.
func (f *form) field(key []byte) *field {
	for i := range f.fields {
		if f.fields[i].name == string(key) {
			return &f.fields[i]
		}
	}
	return nil
}

// foldsToAny reports a key that encoding/json would store in a known field
// although the name differs by case.
func (f *form) foldsToAny(key string) bool {
	return slices.ContainsFunc(f.fields, func(known field) bool { return strings.EqualFold(key, known.name) })
}
