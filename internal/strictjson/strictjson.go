// Package strictjson decodes JSON that somebody else wrote, so that what is
// checked is what was sent: one reading per text. It refuses what encoding/json
// forgives: duplicate keys, keys that match a field only by case, unknown
// fields, trailing bytes, invalid UTF-8, lone surrogates, null where nothing
// may be absent, arrays of the wrong length, and integers a float64 rounds.
//
// It does not check meaning: ranges, formats and references between fields are
// the caller's.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
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

// Decode reads exactly one JSON value from b into v.
func Decode(b []byte, v any, o Limits) error {
	tree, err := parse(b, o)
	if err != nil {
		return err
	}
	t := reflect.TypeOf(v)
	if t == nil || t.Kind() != reflect.Pointer {
		return errors.New("json: the target must be a pointer")
	}
	if err := (shape{allowUnknown: o.AllowUnknown}).check(tree, t.Elem(), "$"); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if !o.AllowUnknown {
		d.DisallowUnknownFields()
	}
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("json: %w", err)
	}
	return nil
}

// parse checks the text and returns its tree: map[string]any, []any, string,
// json.Number, bool, nil.
func parse(b []byte, o Limits) (any, error) {
	if len(b) > o.bytes() {
		return nil, fmt.Errorf("json: %d bytes, limit %d", len(b), o.bytes())
	}
	if !utf8.Valid(b) {
		return nil, errors.New("json: invalid UTF-8")
	}
	if !json.Valid(b) {
		return nil, errors.New("json: not one complete value")
	}
	if err := surrogates(b); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return (&walker{d: d, left: o.values()}).value(o.depth(), "$")
}

// walker reads text that json.Valid has accepted.
type walker struct {
	d    *json.Decoder
	left int // values that may still come
}

// value reads the next value.
func (w *walker) value(depth int, path string) (any, error) {
	if w.left--; w.left < 0 {
		return nil, errors.New("json: too many values")
	}
	tok, err := w.d.Token()
	if err != nil {
		return nil, fmt.Errorf("json: %w", err)
	}
	delim, ok := tok.(json.Delim)
	if !ok {
		return tok, nil
	}
	if depth == 0 {
		return nil, fmt.Errorf("json: %s: nested too deeply", clip(path))
	}
	if delim == '{' {
		return w.object(depth-1, path)
	}
	return w.array(depth-1, path)
}

func (w *walker) object(depth int, path string) (any, error) {
	m := map[string]any{}
	for w.d.More() {
		tok, err := w.d.Token()
		if err != nil {
			return nil, fmt.Errorf("json: %w", err)
		}
		key, ok := tok.(string)
		if !ok {
			return nil, fmt.Errorf("json: %s: key is not a string", clip(path))
		}
		if _, dup := m[key]; dup {
			return nil, fmt.Errorf("json: %s: duplicate key %q", clip(path), clip(key))
		}
		if m[key], err = w.value(depth, under(path, key)); err != nil {
			return nil, err
		}
	}
	_, err := w.d.Token() // the closing brace
	return m, err
}

func (w *walker) array(depth int, path string) (any, error) {
	a := []any{}
	for w.d.More() {
		e, err := w.value(depth, element(path, len(a)))
		if err != nil {
			return nil, err
		}
		a = append(a, e)
	}
	_, err := w.d.Token() // the closing bracket
	return a, err
}

// surrogates refuses \uD800–\uDFFF escapes that do not form a pair: decoders
// read them differently. In valid JSON a backslash occurs only inside strings.
func surrogates(b []byte) error {
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' {
			continue
		}
		if b[i+1] != 'u' {
			i++
			continue
		}
		r := hex4(b[i+2:])
		i += 5
		if r < 0xd800 || r > 0xdfff {
			continue
		}
		low := r <= 0xdbff && i+6 < len(b) && b[i+1] == '\\' && b[i+2] == 'u'
		if !low {
			return errors.New("json: lone surrogate")
		}
		if r := hex4(b[i+3:]); r < 0xdc00 || r > 0xdfff {
			return errors.New("json: lone surrogate")
		}
		i += 6
	}
	return nil
}

// hex4 reads the four digits that json.Valid has already seen.
func hex4(b []byte) uint64 {
	n, err := strconv.ParseUint(string(b[:4]), 16, 32)
	if err != nil {
		return 0xd800 // refused as a lone surrogate
	}
	return n
}

// mostText is how much foreign text an error repeats.
const mostText = 80

// clip keeps foreign text in an error short.
func clip(s string) string {
	if len(s) <= mostText {
		return s
	}
	return s[:mostText] + "…"
}

// under and element name a place below path. A path that is long already stays
// as it is: every value has one, and a long key must not be copied for each.
func under(path, key string) string {
	if len(path) > mostText {
		return path
	}
	return path + "." + clip(key)
}

func element(path string, i int) string {
	if len(path) > mostText {
		return path
	}
	return path + "[" + strconv.Itoa(i) + "]"
}
