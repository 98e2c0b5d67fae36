package strictjson

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// The reference reads a text in four passes of encoding/json, as this package
// did at first. It is slow, and each rule stands alone in it.

func referenceDecode(b []byte, v any, o Limits) error {
	if len(b) > o.bytes() || !utf8.Valid(b) || !json.Valid(b) || referenceLone(b) {
		return errors.New("text")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	w := referenceWalk{d: d, left: o.values()}
	tree, err := w.value(o.depth())
	if err != nil {
		return err
	}
	if !referenceFits(tree, reflect.TypeOf(v).Elem(), o.AllowUnknown) {
		return errors.New("shape")
	}
	return json.Unmarshal(b, v)
}

// referenceLone looks at each escape: a low half must follow a high one.
func referenceLone(b []byte) bool {
	text := strings.ToLower(strings.ReplaceAll(string(b), `\\`, "xx"))
	for i := 0; i < len(text); i++ {
		rest := text[i:]
		switch {
		case !strings.HasPrefix(rest, `\ud`) || len(rest) < 6 || rest[3] < '8' || rest[3] > '9' && rest[3] < 'a':
		case rest[3] >= 'c' && rest[3] <= 'f', len(rest) < 12 || !strings.HasPrefix(rest[6:], `\ud`) || rest[9] < 'c' || rest[9] > 'f':
			return true
		default:
			i += 11
		}
	}
	return false
}

type referenceWalk struct {
	d    *json.Decoder
	left int
}

func (w *referenceWalk) value(depth int) (any, error) {
	if w.left--; w.left < 0 {
		return nil, errors.New("values")
	}
	tok, err := w.d.Token()
	delim, ok := tok.(json.Delim)
	if err != nil || !ok {
		return tok, err
	}
	if depth == 0 {
		return nil, errors.New("depth")
	}
	object, list := map[string]any{}, []any{}
	for w.d.More() {
		var key string
		if delim == '{' {
			tok, err := w.d.Token()
			if err != nil {
				return nil, err
			}
			key, _ = tok.(string)
			if _, twice := object[key]; twice {
				return nil, errors.New("duplicate")
			}
		}
		e, err := w.value(depth - 1)
		if err != nil {
			return nil, err
		}
		object[key] = e
		list = append(list, e)
	}
	_, err = w.d.Token()
	if delim == '{' {
		return object, err
	}
	return list, err
}

func referenceFits(v any, t reflect.Type, loose bool) bool {
	if decodesItself(t) {
		return true
	}
	switch t.Kind() {
	case reflect.Pointer:
		return v == nil || referenceFits(v, t.Elem(), loose)
	case reflect.Interface:
		return referenceExact(v)
	case reflect.Struct:
		m, ok := v.(map[string]any)
		for key, e := range m {
			f := formOf(t)
			name, known := reflect.StructField{}, false
			for i := range t.NumField() {
				if tag, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); tag == key && key != "" || tag == "" && t.Field(i).Name == key {
					name, known = t.Field(i), true
				}
			}
			switch {
			case known:
				ok = ok && referenceFits(e, name.Type, loose)
			case !loose || f.foldsToAny(key):
				return false
			}
		}
		return ok
	case reflect.Map:
		m, ok := v.(map[string]any)
		for _, e := range m {
			ok = ok && referenceFits(e, t.Elem(), loose)
		}
		return ok || v == nil
	case reflect.Slice, reflect.Array:
		if v == nil {
			return t.Kind() == reflect.Slice
		}
		if s, ok := v.(string); ok && t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 {
			raw, err := base64.StdEncoding.DecodeString(s)
			return err == nil && base64.StdEncoding.EncodeToString(raw) == s
		}
		a, ok := v.([]any)
		for _, e := range a {
			ok = ok && referenceFits(e, t.Elem(), loose)
		}
		return ok && (t.Kind() == reflect.Slice || len(a) == t.Len())
	case reflect.Float64, reflect.Float32:
		return v != nil && referenceExact(v)
	}
	return v != nil
}

func referenceExact(v any) bool {
	ok := true
	switch v := v.(type) {
	case json.Number:
		f, err := v.Float64()
		ok = err == nil && f >= -maxSafe && f <= maxSafe
	case []any:
		for _, e := range v {
			ok = ok && referenceExact(e)
		}
	case map[string]any:
		for _, e := range v {
			ok = ok && referenceExact(e)
		}
	}
	return ok
}

// referenceCanonical encodes, reads and encodes again.
func referenceCanonical(v any) ([]byte, error) {
	b, err := encode(v)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var tree any
	if err := d.Decode(&tree); err != nil {
		return nil, err
	}
	return encode(tree)
}

var texts = []string{
	`{"name":"a","any":{"x":[1,2,{"y":null}]},"inner":{"key":[1,2]}}`, `{"raw":"\ud83d\ude00","blob":"AAE="}`,
	`{"raw":{"b":1,"a":{"d":[],"c":{}},"b":2},"name":"\u0041\/\\\"\n\u2028<&>"}`, `{"any":"\ud83d\u0041"}`, `{"any":-0}`,
	`{"big":18446744073709551615,"ratio":1e-7,"blob":[1,2],"Map":{"a":{"key":[1,2]},"A":{"key":[-1,0]}}}`,
	` [ 1 , 0.50 , 1E+5 , true , false , null , "é\b\f\r\t\u001f" ] `, `"\ud800"`, `01`, `1.`, `-`, `{"a":1,}`, `[1,]`, `{"a" 1}`, `nul`, "\"\xff\"", "{\"\xff\":1,\"\xfe\":2}",
	`{"text":"\u0041b","ptr":"","blob":"AAE="}`, `{"text":null,"ptr":null,"blob":null}`, `{"text":"123456789"}`, `{"text":1}`, `{"ptr":[]}`, `{"blob":""}`, `{"blob":"AAE"}`,
	`{"any":9007199254740993,"ratio":9007199254740992.5}`, `{"blob":"AAF=","raw":9007199254740993}`, `{"self":{"self":{"self":null}}}`, `{"NAME":1}`, `{"more":1}`,
}

func FuzzDecodeAgreesWithTheReference(f *testing.F) {
	for i, s := range texts {
		f.Add([]byte(s), uint8(i))
	}
	f.Fuzz(func(t *testing.T, b []byte, how uint8) {
		o := Limits{MaxBytes: 1 << 12, MaxDepth: 1 + int(how>>4), MaxValues: 1 + int(how&15)*4, AllowUnknown: how&1 == 1}
		for _, pair := range [][2]any{{new(sample), new(sample)}, {new(any), new(any)}, {new(recursive), new(recursive)}, {new(json.RawMessage), new(json.RawMessage)}} {
			err, want := Decode(b, pair[0], o), referenceDecode(b, pair[1], o)
			if (err == nil) != (want == nil) {
				t.Fatalf("%T of %q with %+v: %v, the reference says %v", pair[0], b, o, err, want)
			}
			if _, raw := pair[0].(*json.RawMessage); raw && (Check(b, o) == nil) != (want == nil) {
				t.Fatalf("Check of %q with %+v: %v, the reference says %v", b, o, Check(b, o), want)
			}
			if err == nil && !cmp.Equal(pair[0], pair[1]) {
				t.Fatalf("%T of %q: %s", pair[0], b, cmp.Diff(pair[0], pair[1]))
			}
		}
	})
}

type recursive struct {
	Self *recursive            `json:"self"`
	List []recursive           `json:"list"`
	Map  map[string]*recursive `json:"map"`
	Flag *bool                 `json:"flag"`
	Text short                 `json:"text"`
	Ptr  *short                `json:"ptr"`
	Blob blob                  `json:"blob"`
}

// short reads itself from text, if there is not too much of it.
type short struct{ S string }

func (s *short) UnmarshalText(b []byte) error {
	if len(b) > 8 {
		return errors.New("long")
	}
	s.S += string(b) + "."
	return nil
}

type blob []byte

func FuzzCanonicalAgreesWithTheReference(f *testing.F) {
	for _, s := range texts {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		agree(t, json.RawMessage(b))
		agree(t, string(b))
		agree(t, map[string]any{string(b): 1, "a": string(b), string(b) + "x": nil})
		var tree any
		if json.Unmarshal(b, &tree) == nil {
			agree(t, tree)
			agree(t, map[string]json.RawMessage{"b": b, "a": nil, "<": b})
			agree(t, []json.RawMessage{b, b})
			agree(t, map[string]string{string(b): "x", "y": string(b)})
			agree(t, struct {
				B []string
				A any
			}{[]string{string(b)}, tree})
		}
	})
}

func agree(t *testing.T, v any) {
	t.Helper()
	got, err := Canonical(v)
	want, wantErr := referenceCanonical(v)
	if (err == nil) != (wantErr == nil) || string(got) != string(want) {
		t.Fatalf("%#v: %q (%v), the reference says %q (%v)", v, got, err, want, wantErr)
	}
}

func TestValuesOfEveryKindAreWrittenAsTheReferenceDoes(t *testing.T) {
	for _, v := range []any{
		nil, true, 1, -1, 1.5, 1e21, 1e-9, 9007199254740993.0, math.Copysign(0, -1), []any(nil), []any{}, map[string]any(nil), map[string]any{}, []string(nil), []string{"b", "a"},
		json.RawMessage(nil), json.RawMessage(""), json.RawMessage("{}x"), json.Number("1.50"), uint64(1) << 63, int64(-1) << 53, []byte{1}, sample{Name: "\u2029"}, &sample{}, func() {},
		map[string]string(nil), map[string]json.RawMessage(nil), []json.RawMessage(nil), map[string]int{"b": 1, "a": 2}, map[string]int(nil), map[string]float64{"b": 1.5, "a": -3, "c": math.Copysign(0, -1)}, math.NaN(), map[string]float64{"a": math.Inf(1)}, []any{func() {}}, map[string]any{"a": func() {}},
		json.RawMessage(strings.Repeat("[", 20_000)), json.RawMessage(strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000)),
	} {
		agree(t, v)
	}
}

func TestADuplicateIsFoundAmongManyKeys(t *testing.T) {
	var b []byte
	for i := range 3 * fewKeys {
		b = fmt.Appendf(b, `,"k%d":{"k1":%d,"k2":0}`, i, i)
	}
	var v any
	if err := Decode(append(append([]byte{'{'}, b[1:]...), '}'), &v, Limits{}); err != nil {
		t.Fatal(err)
	}
	for _, late := range []int{0, fewKeys - 1, fewKeys, 3*fewKeys - 1} {
		text := fmt.Appendf([]byte{'{'}, "%s,\"k%d\":1}", b[1:], late)
		if err := Decode(text, &v, Limits{}); err == nil || !strings.Contains(err.Error(), "duplicate key") {
			t.Errorf("k%d twice: %v", late, err)
		}
	}
}

var benchText = []byte(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"read","arguments":{"path":"/data/public/a","limit":10}}}`)

type benchMessage struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
}

func BenchmarkDecode(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if err := Decode(benchText, new(benchMessage), Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeReference(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if err := referenceDecode(benchText, new(benchMessage), Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCanonical(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Canonical(json.RawMessage(benchText)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCanonicalReference(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := referenceCanonical(json.RawMessage(benchText)); err != nil {
			b.Fatal(err)
		}
	}
}

func TestAnObjectIsWrittenInTheOrderOfItsNames(t *testing.T) {
	o := NewObject([]byte("x"))
	o.Text("a", "<\n")
	o.Value("b", []any{1, nil})
	if got, err := o.End(); err != nil || string(got) != `x{"a":"<\n","b":[1,null]}` {
		t.Errorf("%s, %v", got, err)
	}
	if got, err := NewObject(nil).End(); err != nil || string(got) != "{}" {
		t.Errorf("%s, %v", got, err)
	}
	for _, second := range []string{"a", "A"} {
		o := NewObject(nil)
		o.Text("a", "")
		o.Text(second, "")
		if got, err := o.End(); err == nil {
			t.Errorf("wrote %s", got)
		}
	}
}
