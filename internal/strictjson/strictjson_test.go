package strictjson

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type inner struct {
	Key [2]int `json:"key"`
}

type sample struct {
	Name  string          `json:"name"`
	Big   uint64          `json:"big"`
	Ratio float64         `json:"ratio"`
	Blob  []byte          `json:"blob"`
	Any   any             `json:"any"`
	Raw   json.RawMessage `json:"raw"`
	Inner *inner          `json:"inner"`
	Map   map[string]inner
}

func TestDecodeRefusesWhatHasTwoReadings(t *testing.T) {
	tests := []struct {
		name, in string
		limits   Limits
		want     string // part of the error; empty means accepted
	}{
		{"plain", `{"name":"a","big":18446744073709551615,"blob":"AAE=","inner":{"key":[1,2]}}`, Limits{}, ""},
		{"raw keeps big numbers for its own reader", `{"raw":{"n":9007199254740993}}`, Limits{}, ""},
		{"duplicate key", `{"name":"a","name":"b"}`, Limits{}, "duplicate key"},
		{"duplicate key by escape", `{"name":"a","n\u0061me":"b"}`, Limits{}, "duplicate key"},
		{"duplicate key deep in raw", `{"raw":[{"a":{"x":1,"x":2}}]}`, Limits{}, "duplicate key"},
		{"case folded key", `{"NAME":"a"}`, Limits{}, "unknown field"},
		{"case folded key with unknown allowed", `{"NAME":"a"}`, Limits{AllowUnknown: true}, "unknown field"},
		{"kelvin sign folds to k", `{"inner":{"\u212aey":[1,2]}}`, Limits{AllowUnknown: true}, "unknown field"},
		{"unknown", `{"other":1}`, Limits{}, "unknown field"},
		{"unknown allowed", `{"other":1}`, Limits{AllowUnknown: true}, ""},
		{"unknown in map element", `{"Map":{"a":{"b":1}}}`, Limits{}, "unknown field"},
		{"trailing bytes", `{} {}`, Limits{}, "not one complete value"},
		{"trailing newline", "{}\n", Limits{}, ""},
		{"empty", ``, Limits{}, "not one complete value"},
		{"invalid utf-8", "{\"name\":\"\xff\"}", Limits{}, "invalid UTF-8"},
		{"lone high surrogate", `{"name":"\ud800"}`, Limits{}, "lone surrogate"},
		{"lone low surrogate", `{"name":"\udc00"}`, Limits{}, "lone surrogate"},
		{"high surrogate before letter", `{"name":"\ud800\u0041"}`, Limits{}, "lone surrogate"},
		{"pair", `{"name":"\ud83d\ude00"}`, Limits{}, ""},
		{"escaped backslash before u", `{"name":"\\ud800"}`, Limits{}, ""},
		{"null for a string", `{"name":null}`, Limits{}, "null"},
		{"null for a struct", `{"Map":{"a":null}}`, Limits{}, "not an object"},
		{"null for a pointer", `{"inner":null}`, Limits{}, ""},
		{"short array", `{"inner":{"key":[1]}}`, Limits{}, "1 elements, want 2"},
		{"long array", `{"inner":{"key":[1,2,3]}}`, Limits{}, "3 elements, want 2"},
		{"base64 with newline", `{"blob":"AA\nE="}`, Limits{}, "not canonical base64"},
		{"base64 with spare bits", `{"blob":"AAF="}`, Limits{}, "not canonical base64"},
		{"rounded integer in any", `{"any":[{"n":9007199254740993}]}`, Limits{}, "beyond 2^53"},
		{"rounded integer in float", `{"ratio":-9007199254740992}`, Limits{}, "beyond 2^53"},
		{"largest safe integer", `{"any":9007199254740991}`, Limits{}, ""},
		{"huge exponent", `{"any":1e999}`, Limits{}, "beyond 2^53"},
		{"too long", `{"name":"aaaaaaaaaaaaaaaa"}`, Limits{MaxBytes: 10}, "limit 10"},
		{"default size", `{"name":"` + strings.Repeat("a", 64<<10) + `"}`, Limits{}, "limit 65536"},
		{"too deep", `{"raw":[[[1]]]}`, Limits{MaxDepth: 3}, "nested too deeply"},
		{"just deep enough", `{"raw":[[1]]}`, Limits{MaxDepth: 3}, ""},
		{"default depth", `{"raw":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `}`, Limits{}, "nested too deeply"},
		{"too many values", `{"raw":[1,2,3]}`, Limits{MaxValues: 4}, "too many values"},
		{"just few enough values", `{"raw":[1,2,3]}`, Limits{MaxValues: 5}, ""},
		{"default number of values", `{"raw":[` + strings.Repeat("0,", 65535) + `0]}`, Limits{MaxBytes: 1 << 20}, "too many values"},
		{"array where an object is due", `[]`, Limits{}, "not an object"},
		{"wrong type", `{"name":1}`, Limits{}, "cannot unmarshal"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			var s sample
			err := Decode([]byte(tc.in), &s, tc.limits)
			if tc.want == "" && err != nil {
				t.Fatalf("refused: %v", err)
			}
			if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Fatalf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestALongKeyIsNotCopiedForEachValueBelowIt(t *testing.T) {
	text := `{"any":{"` + strings.Repeat("k", 512<<10) + `":[` + strings.Repeat("0,", 1000) + `0]}}`
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var v sample
	if err := Decode([]byte(text), &v, Limits{MaxBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 32<<20 {
		t.Errorf("%d MiB for a text of %d KiB", took>>20, len(text)>>10)
	}
}

func TestAListWithABoundIsRefusedBeforeItIsStored(t *testing.T) {
	type part struct{ A, B, C, D [8]uint64 }
	var v struct {
		Few  []part   `json:"few" most:"2"`
		Many []part   `json:"many"`
		Odd  []string `json:"odd" most:"two"`
	}
	for text, good := range map[string]bool{
		`{"few":[{},{}],"many":[{},{},{}]}`: true, `{"few":[],"odd":[]}`: true, `{"few":null}`: true,
		`{"few":[{},{},{}]}`: false, `{"odd":["a"]}`: false,
	} {
		if err := Decode([]byte(text), &v, Limits{}); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
	text := []byte(`{"few":[` + strings.Repeat("{},", 10000) + `{}]}`)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := Decode(text, &v, Limits{})
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; err == nil || took > 64<<10 {
		t.Errorf("%d KiB for what is refused: %v", took>>10, err)
	}
}

func TestDecodeWantsAPointer(t *testing.T) {
	for _, v := range []any{nil, sample{}, 1} {
		if err := Decode([]byte(`{}`), v, Limits{}); err == nil {
			t.Errorf("Decode into %T succeeded", v)
		}
	}
}

func TestCanonicalGivesEqualBytesForEqualValues(t *testing.T) {
	a, err := Canonical(map[string]any{"b": "<&>", "a": []any{1, uint64(1) << 63, nil}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(`{"a":[1,9223372036854775808,null],"b":"<&>"}`, string(a)); diff != "" {
		t.Error(diff)
	}
	b, err := Canonical(struct {
		B string `json:"b"`
		A any    `json:"a"`
	}{"<&>", []any{1, uint64(1) << 63, nil}})
	if err != nil || string(a) != string(b) {
		t.Errorf("struct gives %s (%v), map gives %s", b, err, a)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"name":"a","any":{"x":[1,2,{"y":null}]},"inner":{"key":[1,2]}}`))
	f.Add([]byte(`{"raw":"\ud83d\ude00","blob":"AAE="}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s sample
		if Decode(b, &s, Limits{}) != nil {
			return
		}
		c, err := Canonical(s)
		if err != nil {
			t.Fatalf("accepted but not encodable: %v", err)
		}
		var again sample
		if err := Decode(c, &again, Limits{MaxBytes: 1 << 20}); err != nil {
			t.Fatalf("own output %s refused: %v", c, err)
		}
		c2, err := Canonical(again)
		if err != nil || string(c) != string(c2) {
			t.Fatalf("round trip changed %s to %s", c, c2)
		}
	})
}
