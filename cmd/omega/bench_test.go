package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"omega/internal/vectors"
)

func TestBenchPrintsOneArrayOfTheAgreedFields(t *testing.T) {
	code, out, words := omega(t, "bench", "--json", "--runs", "1", "decision")
	if code != exitOK {
		t.Fatalf("exit %d: %s", code, words)
	}
	var rows []map[string]any
	if err := json.Unmarshal([]byte(out), &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) != 6 {
		t.Fatalf("%d rows, want the decision's alone: %s", len(rows), out)
	}
	for _, row := range rows {
		for _, field := range []string{"name", "ours", "unit", "reference", "ratio", "published"} {
			if _, ok := row[field]; !ok {
				t.Errorf("no %s in %s", field, out)
			}
		}
		name, _ := row["name"].(string)
		if ours, ok := row["ours"].(float64); len(row) != 6 || !strings.HasPrefix(name, "decision/") || !ok || ours < 0 {
			t.Errorf("row %v", row)
		}
	}
}

func TestTheAppraisalOfAGPUIsMeasuredOnRecordedEvidence(t *testing.T) {
	vectors.Dir(t)
	code, out, words := omega(t, "bench", "--json", "gpu")
	var rows []struct {
		Name            string
		Ours, Reference float64
	}
	if err := json.Unmarshal([]byte(out), &rows); code != exitOK || err != nil {
		t.Fatalf("exit %d: %s", code, words)
	}
	if len(rows) != 2 || rows[0].Name != "gpu/appraise" || rows[0].Reference != 40e6 || rows[1].Ours < rows[0].Ours {
		t.Errorf("%s", out)
	}
}

func TestAnUnknownGroupIsNamed(t *testing.T) {
	if code, _, words := omega(t, "bench", "what"); code != exitUsage || !strings.Contains(words, "decision") {
		t.Errorf("exit %d: %q", code, words)
	}
}

func TestARowComparesWithItsReference(t *testing.T) {
	half := benchRow{Ours: 5}.versus("x", 10)
	if *half.Ratio != 0.5 || *half.Reference != 10 {
		t.Errorf("ratio %v of %v", *half.Ratio, *half.Reference)
	}
	if none := (benchRow{Ours: 5}).versus("x", 0); none.Ratio != nil {
		t.Errorf("ratio %v to nothing", *none.Ratio)
	}
}

func TestBenchmarkLinesAreRead(t *testing.T) {
	text := "goos: linux\nBenchmarkAppend-2   \t   5878\t    196733 ns/op\nBenchmarkAppend-2 1 3.5 ns/op 2 B/op\nBenchmarkBroken-2 x y z\nPASS\n"
	want := map[string][]float64{"Append": {196733, 3.5}}
	if diff := cmp.Diff(want, benchmarkTimes([]byte(text))); diff != "" {
		t.Error(diff)
	}
}

func TestOnlyAWholeConsoleLineIsATime(t *testing.T) {
	if ms, err := uptimeIn("omega: ready 8123", "ready"); err != nil || ms != 8123 {
		t.Errorf("%v, %v", ms, err)
	}
	for _, bad := range []string{"omega: ready", "omega: ready soon", "omega: serving 5", "omega: ready -5", "omega: ready 5 6"} {
		if ms, err := uptimeIn(bad, "ready"); err == nil {
			t.Errorf("%q is %v ms", bad, ms)
		}
	}
}

func TestFiguresAreWrittenInTheSizeThatPeopleRead(t *testing.T) {
	for want, got := range map[string]string{
		"32.00 MiB": figure(32<<20, "bytes"), "15 ns": figure(15, "ns"), "1.5 µs": figure(1500, "ns"),
		"2.50 ms": figure(2.5e6, "ns"), "830 ms": figure(830, "ms"), "12.0 s": figure(12000, "ms"),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestMeasuringStopsAtTheFirstFault(t *testing.T) {
	fault := errors.New("denied")
	if _, err := eachCall(t.Context(), 3, func() error { return fault }); !errors.Is(err, fault) {
		t.Errorf("error %v", err)
	}
}
