package probe_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"omega/gpu/probe"
)

func TestMessagesComeBackAsTheyWere(t *testing.T) {
	var pipe bytes.Buffer
	q := probe.Request{Op: probe.OpEvidence, GPU: 3, Nonce: [32]byte{1, 2, 3}}
	want := probe.Answer{Report: bytes.Repeat([]byte{7}, 8<<10), Chain: bytes.Repeat([]byte{9}, 5<<10)}
	if err := errors.Join(probe.Write(&pipe, q), probe.Write(&pipe, want)); err != nil {
		t.Fatal(err)
	}
	gotQ, err := probe.ReadRequest(&pipe)
	if err != nil || gotQ != q {
		t.Fatalf("request %+v, error %v", gotQ, err)
	}
	got, err := probe.ReadAnswer(&pipe, q)
	if err != nil || !cmp.Equal(got, want) {
		t.Fatalf("answer %s, error %v", cmp.Diff(want, got), err)
	}
	if _, err := probe.ReadRequest(&pipe); !errors.Is(err, io.EOF) {
		t.Errorf("the end is %v", err)
	}
}

func TestWhatIsNoMessageIsRefused(t *testing.T) {
	for name, b := range map[string]string{
		"an empty message":      "\x00\x00\x00\x00",
		"a message that is cut": "\x00\x00\x00\x09{\"op\"",
		"a huge one":            "\xff\xff\xff\xff",
		"an unknown op":         "\x00\x00\x00\x0d{\"op\":\"exec\"}",
		"a negative index":      "\x00\x00\x00\x17{\"gpu\":-1,\"op\":\"system\"}",
		"an unknown field":      "\x00\x00\x00\x17{\"op\":\"system\",\"x\":true}",
		"a key twice":           "\x00\x00\x00\x1d{\"op\":\"system\",\"op\":\"system\"}",
	} {
		if q, err := probe.ReadRequest(strings.NewReader(b)); !errors.Is(err, probe.ErrProtocol) {
			t.Errorf("%s: %+v, error %v", name, q, err)
		}
	}
}

func TestAnAnswerHasWhatWasAskedFor(t *testing.T) {
	system, evidence := probe.Request{Op: probe.OpSystem}, probe.Request{Op: probe.OpEvidence}
	for name, tt := range map[string]struct {
		q    probe.Request
		a    probe.Answer
		good bool
	}{
		"a system":                         {system, probe.Answer{System: &probe.System{GPUs: 1}}, true},
		"evidence":                         {evidence, probe.Answer{Report: []byte{1}, Chain: []byte{1}}, true},
		"an error":                         {evidence, probe.Answer{Error: "no"}, true},
		"nothing":                          {system, probe.Answer{}, false},
		"evidence for a system":            {system, probe.Answer{Report: []byte{1}, Chain: []byte{1}}, false},
		"a report alone":                   {evidence, probe.Answer{Report: []byte{1}}, false},
		"a system with a report":           {system, probe.Answer{System: &probe.System{}, Report: []byte{1}}, false},
		"more GPUs than any machine":       {system, probe.Answer{System: &probe.System{GPUs: 17}}, false},
		"a count that is negative":         {system, probe.Answer{System: &probe.System{GPUs: -1}}, false},
		"a system where ready was changed": {probe.Request{Op: probe.OpReady}, probe.Answer{System: &probe.System{Ready: true}}, true},
	} {
		var pipe bytes.Buffer
		if err := probe.Write(&pipe, tt.a); err != nil {
			t.Fatal(err)
		}
		if got, err := probe.ReadAnswer(&pipe, tt.q); (err == nil) != tt.good {
			t.Errorf("%s: %+v, error %v", name, got, err)
		}
	}
	if err := probe.Write(io.Discard, probe.Answer{Report: make([]byte, probe.MaxMessage)}); !errors.Is(err, probe.ErrProtocol) {
		t.Errorf("a message that is too long: %v", err)
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"op":"system"}`))
	f.Add([]byte(`{"gpu":1,"op":"evidence"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if q, err := probe.ParseRequest(b); err == nil && q.GPU < 0 {
			t.Errorf("%+v", q)
		}
	})
}

func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte(`{"system":{"cpu":3,"devtools":false,"driver":"","environment":2,"feature":true,"gpu_capable":true,"gpus":1,"multi_gpu":0,"ready":false}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := probe.ParseAnswer(b, probe.Request{Op: probe.OpSystem}); err == nil && a.Error == "" && a.System == nil {
			t.Errorf("%+v", a)
		}
	})
}
