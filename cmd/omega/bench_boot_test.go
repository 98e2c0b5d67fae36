package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/u-root/pkg/cpio"
)

// contents are the files of an initramfs.
func contents(t *testing.T, initrd []byte) map[string]string {
	t.Helper()
	records, err := readPayload(initrd)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, r := range records {
		b := make([]byte, r.FileSize)
		if _, err := r.ReadAt(b, 0); err != nil && r.FileSize > 0 {
			t.Fatal(err)
		}
		out[r.Name] = string(b)
	}
	return out
}

func payloadOf(t *testing.T, records ...cpio.Record) []byte {
	t.Helper()
	archive, err := writePayload(records)
	if err != nil {
		t.Fatal(err)
	}
	b, err := compressPayload(archive)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTheProbeTakesThePlaceOfPID1AndKeepsTheRest(t *testing.T) {
	before := payloadOf(t, cpio.StaticFile("etc/omega/image.json", "{}", 0o444), cpio.StaticFile("init", "platform", 0o755))
	after, err := withProbe(before, []byte("probe"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"etc/omega/image.json": "{}", "init": "probe", "init.platform": "platform"}
	if diff := cmp.Diff(want, contents(t, after)); diff != "" {
		t.Error(diff)
	}
	for name, b := range map[string][]byte{
		"an initramfs without PID 1": payloadOf(t, cpio.StaticFile("bin/sh", "x", 0o755)),
		"no initramfs":               []byte("noise"),
	} {
		if _, err := withProbe(b, []byte("probe")); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestVariantEditsACopy(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	for _, name := range []string{"kernel", "initrd", "cmdline", "ovmf.fd"} {
		if err := os.WriteFile(filepath.Join(from, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	err := variant(from, to, map[string]func([]byte) ([]byte, error){
		"cmdline": func(b []byte) ([]byte, error) { return append(b, " more"...), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(to, "kernel"): "kernel", filepath.Join(to, "cmdline"): "cmdline more", filepath.Join(from, "cmdline"): "cmdline",
	} {
		if b, err := os.ReadFile(path); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", path, b, err)
		}
	}
}

func TestMemoryOfTheIdlePlatformIsReadFromTheMeter(t *testing.T) {
	tests := []struct {
		line string
		want int64
		ok   bool
	}{
		{"probe: memory anonymous 100 mapped 20 files 3", 123, true},
		{"probe: memory anonymous 0 mapped 20 files 3", 23, false}, // no process has no memory
		{"probe: memory anonymous 100", 100, false},
		{"omega: ready 12", 0, false},
	}
	for _, tt := range tests {
		if got, ok := memoryIn(tt.line); ok != tt.ok || ok && got != tt.want {
			t.Errorf("%s: %d, %v", tt.line, got, ok)
		}
	}
}

func TestStampsTellWhenALineCameFirst(t *testing.T) {
	var s stamps
	begin := time.Now().Add(-time.Hour)
	s.add("omega: pid1 3")
	s.add("omega: serving 5")
	first := s.since(begin, "omega: serving ")
	time.Sleep(2 * time.Millisecond)
	s.add("omega: serving 6")
	if got := s.since(begin, "omega: serving "); got != first || got < 3_600_000 {
		t.Errorf("%v ms, first %v", got, first)
	}
	if got := s.since(begin, "omega: ready "); got != 0 {
		t.Errorf("a line that never came: %v", got)
	}
}

func TestInitHasALineForTheBenchmarkToChange(t *testing.T) {
	tree := t.TempDir()
	b, err := os.ReadFile("../../init/main.go")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(tree, "init", "main.go")
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := changeInit(tree); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) == string(b) || strings.Count(string(got), "\n") != strings.Count(string(b), "\n") {
		t.Errorf("more or less than one line changed, error %v", err)
	}
}

func TestRowsComeWithoutAReferenceWhereThereIsNone(t *testing.T) {
	times := &bootTimes{pid1: []float64{12}, emptyPID1: []float64{10}, serving: []float64{30}, ready: []float64{40}, accel: "tcg"}
	rows := bootRows(times, nil)
	if len(rows) != 3 || *rows[0].Ratio != 1.2 || rows[1].Reference != nil {
		t.Errorf("rows %+v", rows)
	}
	times.stock = []float64{90}
	if rows := bootRows(times, &stockSystem{words: "Debian"}); rows[1].Reference == nil || *rows[1].Ratio != 30.0/90 {
		t.Errorf("rows %+v", rows)
	}
}
