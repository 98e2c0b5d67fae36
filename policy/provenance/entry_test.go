package provenance_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"omega/internal/strictjson"
	"omega/policy/provenance"
)

func full() provenance.Entry {
	n := uint64(4)
	return provenance.Entry{
		Kind: provenance.KindOutcome, Time: start.Add(1500), Agent: "one", Identity: [32]byte{1}, Action: "llm.chat",
		Resource: "m<&>", Input: json.RawMessage(` {"b": 1.50, "a": ["<", "\u003c", "\u2028"]} `), Decision: provenance.Permit,
		Rule: "r", Reasons: []string{"x & y"}, Intent: &n, Result: json.RawMessage(`{"z":1e2,"y":null}`), PolicyDigest: [32]byte{2},
	}
}

func TestAnEncodedEntryIsCanonicalJSON(t *testing.T) {
	for name, e := range map[string]provenance.Entry{"full": full(), "small": {Kind: provenance.KindBoot, Time: start}} {
		got, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		want, err := strictjson.Canonical(e)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if _, err := provenance.ParseEntry(got); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOnlyTheCanonicalFormIsParsed(t *testing.T) {
	b, err := full().Encode()
	if err != nil {
		t.Fatal(err)
	}
	good := string(b)
	for name, bad := range map[string]string{
		"space":           strings.Replace(good, ",", ", ", 1),
		"unknown field":   strings.Replace(good, `"agent":`, `"agents":`, 1),
		"extra field":     strings.Replace(good, `{"action"`, `{"aaa":1,"action"`, 1),
		"duplicate key":   strings.Replace(good, `"agent":"one"`, `"agent":"one","agent":"one"`, 1),
		"trailing bytes":  good + " ",
		"other case":      strings.Replace(good, `"kind"`, `"Kind"`, 1),
		"upper hex":       strings.Replace(good, strings.Repeat("0", 8), "0000000A", 1),
		"short digest":    strings.Replace(good, `"identity":"01`, `"identity":"`, 1),
		"escaped slash":   strings.Replace(good, `llm.chat`, `llm\u002echat`, 1),
		"local time":      strings.Replace(good, `Z"`, `+00:00"`, 1),
		"unknown kind":    strings.Replace(good, `"kind":"outcome"`, `"kind":"party"`, 1),
		"negative intent": strings.Replace(good, `"intent":4`, `"intent":-4`, 1),
		"nothing":         "",
		"null":            "null",
	} {
		if bad == good {
			t.Fatalf("%s: the case changes nothing", name)
		}
		if e, err := provenance.ParseEntry([]byte(bad)); err == nil {
			t.Errorf("%s: read as %+v", name, e)
		}
	}
}

func TestAnEntryOutOfBoundsIsRefused(t *testing.T) {
	long := strings.Repeat("a", 2000)
	tests := []struct {
		name   string
		change func(*provenance.Entry)
		want   error
	}{
		{"good", func(*provenance.Entry) {}, nil},
		{"long agent", func(e *provenance.Entry) { e.Agent = long }, provenance.ErrInvalid},
		{"long reason", func(e *provenance.Entry) { e.Reasons = []string{long} }, provenance.ErrInvalid},
		{"reason that is not UTF-8", func(e *provenance.Entry) { e.Reasons = []string{"\xff"} }, provenance.ErrInvalid},
		{"input that is not JSON", func(e *provenance.Entry) { e.Input = json.RawMessage("{") }, provenance.ErrInvalid},
		{"year 10000", func(e *provenance.Entry) { e.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, provenance.ErrInvalid},
		{"large input", func(e *provenance.Entry) {
			e.Input = json.RawMessage(`"` + strings.Repeat("a", provenance.MaxEntry) + `"`)
		}, provenance.ErrTooLarge},
	}
	for _, tt := range tests {
		e := full()
		tt.change(&e)
		if _, err := e.Encode(); !errors.Is(err, tt.want) {
			t.Errorf("%s: error %v, want %v", tt.name, err, tt.want)
		}
	}
}
