package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math"
	"os/exec"
	"strconv"
	"strings"
)

// goBench runs the benchmarks of a package that the host may not link, or whose
// tests make what is measured, and returns what they print.
func goBench(ctx context.Context, pkg string, args ...string) ([]byte, error) {
	source, err := sourceRoot()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"test", "-run=^$"}, args...), pkg)...)
	cmd.Dir = source
	var words bytes.Buffer
	cmd.Stderr = &words
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("benchmarks of %s: %w: %s%s", pkg, err, text, words.Bytes())
	}
	return text, nil
}

// benchLog runs the writer's own benchmarks: the writer is a guest package,
// which the host does not link.
func benchLog(ctx context.Context, e *env, _ benchOptions) ([]benchRow, error) {
	step := e.progress("appending to a log")
	defer step.Done()
	text, err := goBench(ctx, "./policy/provenance/writer", "-bench=.", "-count=5", "-benchtime=200ms")
	if err != nil {
		return nil, err
	}
	ns := benchmarkTimes(text)
	chain, ok := ns["ReferenceChain"]
	if !ok || len(ns["Append"]) == 0 || len(ns["AppendConcurrent"]) == 0 {
		return nil, fmt.Errorf("benchmarks of the writer are missing in:\n%s", text)
	}
	rows := []benchRow{
		{
			Name: "log/append-alone", Ours: median(ns["Append"]), Unit: "ns",
			Published: "Tessera POSIX 120-142 ms until the checkpoint is published (measured by us, default interval)",
		},
		{Name: "log/append-many", Ours: median(ns["AppendConcurrent"]), Unit: "ns"},
	}
	for i := range rows {
		rows[i].Ours = math.Round(rows[i].Ours)
		rows[i] = rows[i].versus("plain SHA-256 chain, neither signed nor sealed", math.Round(median(chain)))
	}
	return rows, nil
}

// benchmarkTimes reads `go test -bench` lines: BenchmarkName-2  1000  123 ns/op.
func benchmarkTimes(text []byte) map[string][]float64 {
	out := map[string][]float64{}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) < 4 || f[3] != "ns/op" || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(f[0], "Benchmark"), "-")
		if ns, err := strconv.ParseFloat(f[2], 64); err == nil {
			out[name] = append(out[name], ns)
		}
	}
	return out
}
