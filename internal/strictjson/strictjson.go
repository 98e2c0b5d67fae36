// Package strictjson decodes JSON that somebody else wrote, so that what is
// checked is what was sent: one reading per text. It refuses what encoding/json
// forgives: duplicate keys, keys that match a field only by case, unknown
// fields, trailing bytes, invalid UTF-8, lone surrogates, null where nothing
// may be absent, arrays of the wrong length, and integers a float64 rounds.
// It also writes JSON in a canonical form.
//
// It does not check meaning: ranges, formats and references between fields are
// the caller's.
package strictjson

import (
	"errors"
	"fmt"
	"reflect"
	"unicode/utf8"
)

const (
	defaultMaxBytes  = 64 << 10
	defaultMaxDepth  = 32
	defaultMaxValues = 64 << 10
)

// Limits bounds one Decode. The zero value is the strict one.
type Limits struct {
	MaxBytes     int  // 0 means 64 KiB
	MaxDepth     int  // 0 means 32 nested objects or arrays
	MaxValues    int  // 0 means 65536; in memory a value of two bytes takes hundreds
	AllowUnknown bool // lets fields pass that the type does not have
}

func (l Limits) bytes() int {
	if l.MaxBytes == 0 {
		return defaultMaxBytes
	}
	return l.MaxBytes
}

func (l Limits) depth() int {
	if l.MaxDepth == 0 {
		return defaultMaxDepth
	}
	return l.MaxDepth
}

func (l Limits) values() int {
	if l.MaxValues == 0 {
		return defaultMaxValues
	}
	return l.MaxValues
}

// Decode reads exactly one JSON value from b into v. It is checked whole, in
// one pass, before anything of it is stored. A field's tag `most:"N"` bounds the
// elements of its list.
func Decode(b []byte, v any, o Limits) error {
	to := reflect.ValueOf(v)
	if to.Kind() != reflect.Pointer || to.IsNil() {
		return errors.New("json: the target must be a pointer")
	}
	f := formOf(to.Type().Elem())
	if err := check(b, f, o); err != nil {
		return err
	}
	return (&storer{text{b: b}}).store(f, to.Elem())
}

// Check refuses what Decode refuses in every text, whatever it is read into.
func Check(b []byte, o Limits) error { return check(b, anything, o) }

func check(b []byte, f *form, o Limits) error {
	if len(b) > o.bytes() {
		return fmt.Errorf("json: %d bytes, limit %d", len(b), o.bytes())
	}
	if !utf8.Valid(b) {
		return errors.New("json: invalid UTF-8")
	}
	c := checker{text: text{b: b}, left: o.values(), loose: o.AllowUnknown}
	if err := c.value(f, o.depth()); err != nil {
		return err
	}
	if c.space(); c.at != len(b) {
		return errSyntax
	}
	return nil
}

// A misfit is a value that is not what it must be. Its path grows on the way
// out, so that a text without fault costs none.
type misfit struct{ path, what string }

func (m *misfit) Error() string { return "json: " + clip("$"+m.path) + ": " + m.what }

func misfitf(format string, args ...any) error {
	return &misfit{what: fmt.Sprintf(format, args...)}
}

// within says that a misfit stands below a key or an index.
func within(err error, place func() string) error {
	if m, ok := err.(*misfit); ok {
		m.path = place() + m.path
	}
	return err
}

// mostText is how much foreign text an error repeats.
const mostText = 80

// clip keeps foreign text in an error short.
func clip[T ~string | ~[]byte](s T) string {
	if len(s) <= mostText {
		return string(s)
	}
	return string(s[:mostText]) + "…"
}
