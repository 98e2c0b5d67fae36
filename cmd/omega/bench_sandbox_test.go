package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFiguresOfSandboxesComeFromBenchmarkLines(t *testing.T) {
	text := []byte("BenchmarkStartFromPool-2 1 20000000 ns/op\nBenchmarkStartFromPool-2 1 26000000 ns/op\nBenchmarkStartFromPool-2 1 90000000 ns/op\n" +
		"BenchmarkStartFromCold-2 1 130000000 ns/op\nBenchmarkReferenceRunsc-2 1 130000000 ns/op\nBenchmarkIdleStatic-2 1 9000000 ns/op 10737418 bytes/agent\n")
	rows, err := sandboxRows(benchmarkTimes(text), benchmarkBytes(text))
	if err != nil {
		t.Fatal(err)
	}
	type figure struct {
		Name      string
		Ours      float64
		Reference float64
	}
	var got []figure
	for _, r := range rows {
		got = append(got, figure{r.Name, r.Ours, *r.Reference})
	}
	want := []figure{
		{"agents/start-from-pool", 26, 30}, {"agents/start-from-cold", 130, 150},
		{"agents/start-from-pool", 26, 130}, {"agents/start-from-cold", 130, 130},
		{"agents/idle-per-gib/static", 100, 100},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := sandboxRows(nil, nil); err == nil {
		t.Error("figures of nothing")
	}
}

func TestThePlatformsMemoryIsWithoutTheShellsFiles(t *testing.T) {
	lines := []string{
		"AnonPages:         40000 kB", "Shmem:             80000 kB", "cat /proc/meminfo",
		"-rwxr-xr-x 0 0 35000000 Jan  1  1970 runsc", "-rwxr-xr-x 0 0 6000000 Jan  1  1970 shim",
		"-rwxr-xr-x 0 0 4000000 Jan  1  1970 sh", "-rwxr-xr-x 0 0 3000000 Jan  1  1970 cat",
	}
	if got, err := platformMemory(lines); err != nil || got != 120000<<10-7000000 {
		t.Errorf("%d, %v", got, err)
	}
	if _, err := platformMemory(lines[:4]); err == nil {
		t.Error("a figure although the shell's own file was not seen")
	}
}
