package gateway

import (
	"encoding/json"
	"testing"

	"omega/internal/strictjson"
)

// FuzzEachField holds the reader of canonical objects against encoding/json.
func FuzzEachField(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"a":1}`, `{"a":"\\\"","b":[{"c":"]}"},null,true]}`, `{"":{"":{}}}`, `{"\u0000":-1.5e3,"z":"\\"}`, `[1]`, `{"a":`, `{"a":1,}`, `{"a" :1}`, `{"a":"b`, `}`, `{"a":}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = eachField(b, func(string, []byte) error { return nil }) // ends, whatever it gets
		var want map[string]json.RawMessage
		if strictjson.Decode(b, &want, strictjson.Limits{}) != nil || want == nil {
			return
		}
		text, err := strictjson.Canonical(want)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		if err := eachField(text, func(name string, value []byte) error {
			var plain string
			if err := json.Unmarshal([]byte(`"`+name+`"`), &plain); err != nil {
				return err
			}
			got[plain] = string(value)
			return nil
		}); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if len(got) != len(want) {
			t.Fatalf("%s: %d fields, want %d", text, len(got), len(want))
		}
		for name, v := range want {
			canonical, err := strictjson.Canonical(v)
			if err != nil || string(canonical) != got[name] {
				t.Errorf("%s: field %q is %s, want %s", text, name, got[name], canonical)
			}
		}
	})
}
