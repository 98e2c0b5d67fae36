package cbor

import (
	"bytes"
	"encoding/hex"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"omega/internal/membound"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The encodings are those of RFC 8949 appendix A, where it has the value.
func TestEachValueHasTheEncodingOfTheRFC(t *testing.T) {
	tests := []struct {
		value any
		hex   string
	}{
		{int64(0), "00"}, {int64(23), "17"}, {int64(24), "1818"}, {int64(100), "1864"},
		{int64(1000), "1903e8"}, {int64(1000000), "1a000f4240"}, {int64(1000000000000), "1b000000e8d4a51000"},
		{uint64(math.MaxUint64), "1bffffffffffffffff"},
		{int64(-1), "20"}, {int64(-10), "29"}, {int64(-100), "3863"}, {int64(-1000), "3903e7"}, {int64(math.MinInt64), "3b7fffffffffffffff"},
		{false, "f4"}, {true, "f5"},
		{[]byte{}, "40"}, {[]byte{1, 2, 3, 4}, "4401020304"},
		{"", "60"}, {"IETF", "6449455446"}, {"ü", "62c3bc"},
		{[]any{}, "80"}, {[]any{int64(1), []any{int64(2), int64(3)}}, "8201820203"},
		{Map{}, "a0"}, {Map{{int64(1), int64(2)}, {int64(3), int64(4)}}, "a201020304"},
		{Map{{"a", int64(1)}, {"b", []any{int64(2), int64(3)}}}, "a26161016162820203"},
		{Tag{1, int64(1363896240)}, "c11a514b67b0"},
	}
	for _, tt := range tests {
		got, err := Encode(tt.value)
		if err != nil || hex.EncodeToString(got) != tt.hex {
			t.Errorf("%v is %x, %v; want %s", tt.value, got, err, tt.hex)
		}
		back, err := Decode(unhex(t, tt.hex), 64)
		if err != nil || !cmp.Equal(back, tt.value) {
			t.Errorf("%s reads as %v, %v; want %v", tt.hex, back, err, tt.value)
		}
	}
}

func TestMapsAreSortedByTheirEncodedKeys(t *testing.T) {
	got, err := Encode(Map{{"a", 1}, {-1, 2}, {1000, 3}, {10, 4}})
	if err != nil || hex.EncodeToString(got) != "a4"+"0a04"+"1903e803"+"2002"+"616101" {
		t.Errorf("%x, %v", got, err)
	}
	if _, err := Encode(Map{{1, 1}, {int64(1), 2}}); err == nil {
		t.Error("a key that stands twice was written")
	}
}

func TestEverySecondSpellingIsRefused(t *testing.T) {
	tests := []struct{ name, hex, want string }{
		{"nothing", "", "early"},
		{"a number in two bytes that fits in one", "1817", "shortest"},
		{"a number in three bytes that fits in two", "1900ff", "shortest"},
		{"a number in five bytes that fits in three", "1a0000ffff", "shortest"},
		{"a number in nine bytes that fits in five", "1b00000000ffffffff", "shortest"},
		{"a length that is not shortest", "580101", "shortest"},
		{"indefinite bytes", "5f4101ff", "additional information 31"},
		{"an indefinite array", "9f01ff", "additional information 31"},
		{"an indefinite map", "bf0102ff", "additional information 31"},
		{"reserved information", "1c", "additional information 28"},
		{"a float", "f93c00", "simple value or float"},
		{"null", "f6", "simple value"},
		{"undefined", "f7", "simple value"},
		{"text that is not UTF-8", "61ff", "UTF-8"},
		{"keys out of order", "a203040102", "out of order"},
		{"a key twice", "a201020103", "twice"},
		{"a key that is an array", "a18001", "key of type"},
		{"bytes behind", "0000", "behind"},
		{"short bytes", "4401", "early"},
		{"an array of more than there is", "9b0000000100000000", "early"},
		{"a map of more than there is", "bb0000000100000000", "early"},
		{"an integer below -2^63", "3bffffffffffffffff", "below"},
		{"deep nesting", strings.Repeat("81", 40) + "00", "deeper"},
		{"more than the limit", "5841" + strings.Repeat("00", 65), "limit"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if v, err := Decode(unhex(t, tt.hex), 64); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, %v; want an error with %q", v, err, tt.want)
			}
		})
	}
}

type part struct {
	Name string  `json:"name"`
	Key  [2]byte `json:"key"`
}

type whole struct {
	Version string `json:"version"`
	Count   uint32 `json:"count"`
	Delta   int64  `json:"delta"`
	Raw     []byte `json:"raw"`
	Flag    bool   `json:"flag"`
	Parts   []part `json:"parts"`
	Maybe   *part  `json:"maybe,omitempty"`
	Big     uint64 `json:"big,omitempty"`
	Hidden  string `json:"-"`
}

func TestAStructKeepsItsJSONNamesAndComesBack(t *testing.T) {
	in := whole{"v1", 7, -3, []byte{1}, true, []part{{"a", [2]byte{1, 2}}}, &part{Name: "b"}, math.MaxUint64, ""}
	v, err := ToValue(in)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Decode(b, 1<<10)
	if err != nil {
		t.Fatal(err)
	}
	var out whole
	if err := FromValue(back, &out); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(in, out); diff != "" {
		t.Error(diff)
	}
	if _, ok := back.(Map).Get("Hidden"); ok {
		t.Error("a field without a JSON name was written")
	}
	if v, _ := ToValue(whole{}); len(v.(Map)) != 6 {
		t.Errorf("%v: want no optional fields", v)
	}
}

func TestAStructRefusesWhatDoesNotFit(t *testing.T) {
	tests := []struct {
		name string
		v    any
		want string
	}{
		{"no map", int64(1), "is wanted"},
		{"an unknown field", Map{{"other", int64(1)}}, "not known"},
		{"a field under a number", Map{{int64(1), int64(1)}}, "not known"},
		{"a number for text", Map{{"version", int64(1)}}, "is wanted"},
		{"a number too large", Map{{"count", int64(1 << 40)}}, "is wanted"},
		{"a negative count", Map{{"count", int64(-1)}}, "is wanted"},
		{"text for bytes", Map{{"raw", "x"}}, "is wanted"},
		{"bytes of another length", Map{{"maybe", Map{{"key", []byte{1}}}}}, "want 2"},
		{"no list", Map{{"parts", Map{}}}, "is wanted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := FromValue(tt.v, new(whole)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// FuzzDecode: what can be read has exactly one spelling.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{"a201020304", "8201820203", "c11a514b67b0", "1bffffffffffffffff", "a26161016162820203", "f5", "62c3bc", "9b00000000ffffffff", "bb00000000ffffffff", "5b00000000ffffffff"} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		membound.Check(t, b, func() { _, _ = Decode(b, 1<<16) })
		v, err := Decode(b, 1<<16)
		if err != nil {
			return
		}
		again, err := Encode(v)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x reads as %v, which is %x, %v", b, v, again, err)
		}
		_ = FromValue(v, new(whole))
	})
}
