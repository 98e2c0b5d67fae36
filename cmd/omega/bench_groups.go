package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/rego"

	"omega/policy"
	"omega/policy/compile"
)

// The policy and the call that are decided: a permitted call with an argument
// that has to be normalised and compared.
const (
	benchPolicy = "policy/compile/testdata/demo.yaml"
	benchCall   = `{"path":"/data/public/a.txt"}`
)

// benchDecision decides the same call in our Wasm and in OPA's own evaluator,
// both in this process and both from JSON bytes.
func benchDecision(ctx context.Context, e *env, _ benchOptions) ([]benchRow, error) {
	step := e.progress("deciding")
	defer step.Done()
	source, err := sourceRoot()
	if err != nil {
		return nil, err
	}
	out, err := compile.File(filepath.Join(source, benchPolicy))
	if err != nil {
		return nil, err
	}
	text, err := policy.Input{
		Agent: policy.InputAgent{Name: "reporter", Instance: "reporter-1"}, Action: "mcp.tools/call",
		Resource: "files/read_file", Args: []byte(benchCall),
	}.Encode()
	if err != nil {
		return nil, err
	}
	ours, err := timeOurs(ctx, out, text)
	if err != nil {
		return nil, err
	}
	reference, err := timeOPA(ctx, out, text)
	if err != nil {
		return nil, err
	}
	row := benchRow{
		Name: "decision/from-json", Ours: ours, Unit: "ns",
		Published: "paper 39.8 ms, a process each (arXiv 2512.05951); Microsoft AGT 8 µs at 10 rules, in-process Python",
	}
	return []benchRow{row.versus("OPA topdown, same policy", reference)}, nil
}

func timeOurs(ctx context.Context, out *compile.Output, text []byte) (float64, error) {
	d, err := policy.NewDecider(ctx, out.Wasm)
	if err != nil {
		return 0, err
	}
	defer d.Close(ctx)
	return perCall(ctx, func() error {
		if got := d.Decide(ctx, text); !got.Permit {
			return fmt.Errorf("the call is denied: %s", strings.Join(got.Reasons, "; "))
		}
		return nil
	})
}

func timeOPA(ctx context.Context, out *compile.Output, text []byte) (float64, error) {
	q, err := rego.New(rego.Query("data.omega.decision"), rego.Module("policy.rego", string(out.Rego))).PrepareForEval(ctx)
	if err != nil {
		return 0, fmt.Errorf("opa: %w", err)
	}
	return perCall(ctx, func() error {
		var in any
		if err := json.Unmarshal(text, &in); err != nil {
			return err
		}
		rs, err := q.Eval(ctx, rego.EvalInput(in))
		if err != nil || len(rs) != 1 {
			return fmt.Errorf("opa: %d results: %w", len(rs), err)
		}
		return nil
	})
}

// benchLog runs the writer's own benchmarks: the writer is a guest package,
// which the host does not link.
func benchLog(ctx context.Context, e *env, _ benchOptions) ([]benchRow, error) {
	step := e.progress("appending to a log")
	defer step.Done()
	source, err := sourceRoot()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-run=^$", "-bench=.", "-count=5", "-benchtime=200ms", "./policy/provenance/writer")
	cmd.Dir = source
	var words bytes.Buffer
	cmd.Stderr = &words
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("benchmarks of the writer: %w: %s%s", err, text, words.Bytes())
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
