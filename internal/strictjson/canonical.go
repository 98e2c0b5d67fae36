package strictjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Canonical encodes v with sorted keys, no spaces and no HTML escapes, so that
// equal values give equal bytes. Numbers keep the digits they were given as.
func Canonical(v any) ([]byte, error) { return Append(nil, v) }

// Append adds the canonical form of v to dst. Values that JSON is usually read
// into are written as they stand, everything else by encoding/json first.
func Append(dst []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...), nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	case int:
		return strconv.AppendInt(dst, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(dst, v, 10), nil
	case uint64:
		return strconv.AppendUint(dst, v, 10), nil
	case float64:
		return appendFloat(dst, v)
	case string:
		return AppendString(dst, v), nil
	case json.RawMessage:
		if v == nil {
			return append(dst, "null"...), nil
		}
		return appendText(dst, v)
	case []any:
		return appendList(dst, v, Append)
	case []string:
		return appendList(dst, v, appendString)
	case []json.RawMessage:
		return appendList(dst, v, appendRaw)
	case map[string]any:
		return appendMap(dst, v, Append)
	case map[string]string:
		return appendMap(dst, v, appendString)
	case map[string]json.RawMessage:
		return appendMap(dst, v, appendRaw)
	case map[string]int:
		return appendMap(dst, v, appendInt)
	case map[string]float64:
		return appendMap(dst, v, appendFloat)
	}
	if r := reflect.ValueOf(v); r.Kind() == reflect.Struct {
		if f := formOf(r.Type()); f.sorted != nil {
			return appendStruct(dst, f, r)
		}
	}
	b, err := encode(v)
	if err != nil {
		return nil, err
	}
	return appendText(dst, b)
}

func appendString(dst []byte, s string) ([]byte, error) { return AppendString(dst, s), nil }

func appendRaw(dst []byte, raw json.RawMessage) ([]byte, error) { return Append(dst, raw) }

func appendInt(dst []byte, n int) ([]byte, error) { return strconv.AppendInt(dst, int64(n), 10), nil }

func appendFloat(dst []byte, v float64) ([]byte, error) {
	if whole := int64(v); math.Abs(v) <= maxSafe && float64(whole) == v && !(v == 0 && math.Signbit(v)) {
		return strconv.AppendInt(dst, whole, 10), nil
	}
	b, err := encode(v)
	return append(dst, b...), err
}

func appendList[T any](dst []byte, list []T, each func([]byte, T) ([]byte, error)) ([]byte, error) {
	if list == nil {
		return append(dst, "null"...), nil
	}
	dst = append(dst, '[')
	for i, e := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = each(dst, e); err != nil {
			return nil, err
		}
	}
	return append(dst, ']'), nil
}

func appendMap[T any](dst []byte, m map[string]T, each func([]byte, T) ([]byte, error)) ([]byte, error) {
	if m == nil {
		return append(dst, "null"...), nil
	}
	keys := make([]string, 0, len(m))
	for key := range m {
		if !utf8.ValidString(key) { // it may become another key's equal
			b, err := encode(m)
			if err != nil {
				return nil, err
			}
			return appendText(dst, b)
		}
		keys = append(keys, key)
	}
	slices.Sort(keys)
	dst = append(dst, '{')
	for i, key := range keys {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(AppendString(dst, key), ':')
		var err error
		if dst, err = each(dst, m[key]); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

func encode(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("canonical json: %w", err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// AppendString adds a string's canonical form to dst: the one of encoding/json
// without HTML escapes, with what is not UTF-8 replaced.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for from := 0; from < len(s); {
		n := from + run(s[from:], true)
		dst, from = append(dst, s[from:n]...), n
		if from < len(s) {
			r, size := utf8.DecodeRuneInString(s[from:])
			dst, from = appendRune(dst, r), from+size
		}
	}
	return append(dst, '"')
}

// appendRune adds one rune as it stands in a string.
func appendRune(dst []byte, r rune) []byte {
	const digits = "0123456789abcdef"
	switch {
	case r == '"' || r == '\\':
		return append(dst, '\\', byte(r))
	case r == '\b':
		return append(dst, `\b`...)
	case r == '\f':
		return append(dst, `\f`...)
	case r == '\n':
		return append(dst, `\n`...)
	case r == '\r':
		return append(dst, `\r`...)
	case r == '\t':
		return append(dst, `\t`...)
	case r < 0x20:
		return append(dst, '\\', 'u', '0', '0', digits[r>>4], digits[r&15])
	case r == '\u2028' || r == '\u2029': // which end a line in JavaScript
		return append(dst, '\\', 'u', '2', '0', '2', digits[r&15])
	}
	return utf8.AppendRune(dst, r)
}
