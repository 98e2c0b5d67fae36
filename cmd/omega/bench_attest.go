package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"omega/attest/psp"
	"omega/attest/snp"
)

// Budgets of a release, and what the paper says of its own (arXiv 2512.05951).
const (
	reportBudget = 5e6   // ns: one report offline, with its chain
	deltaBudget  = 0.5e6 // ns: one agent more on a platform that is known
	modelBudget  = 50e6  // ns: a model of 10 GB
	modelSize    = 10e9
	benchCalls   = 200 // of what takes less than milliseconds
)

// benchAttest measures evidence and its appraisal.
func benchAttest(ctx context.Context, e *env, _ benchOptions) ([]benchRow, error) {
	step := e.progress("appraising")
	defer step.Done()
	report, err := benchReport(ctx)
	if err != nil {
		return nil, err
	}
	model, err := benchModel(ctx, e)
	if err != nil {
		return nil, err
	}
	ns, err := verifierBenchmarks(ctx)
	if err != nil {
		return nil, err
	}
	one, thousand := median(ns["Appraise/1"]), median(ns["Appraise/1000"])
	whole := benchRow{Name: "attest/platform", Ours: one, Unit: "ns", Published: "paper 8.3 s for its platform, with the boot's measurements"}
	many := benchRow{Name: "attest/1000-agents", Ours: thousand, Unit: "ns", Published: "paper 1.6 s for each agent"}
	first := benchRow{Name: "attest/1000-agents-to-first", Ours: thousand, Unit: "ns"}
	read, readOne := median(ns["Appraise/1000/parse"]), median(ns["Appraise/1/parse"])
	parsed := benchRow{Name: "attest/1000-agents-read", Ours: read, Unit: "ns"}                   // the JSON, strictly, before any appraisal
	fromJSON := benchRow{Name: "attest/1000-agents-from-json", Ours: read + thousand, Unit: "ns"} // what omega verify does, without the network
	produce := benchRow{Name: "attest/agent-produce", Ours: median(ns["Delta/produce"]), Unit: "ns", Published: "paper 1.6 s for an agent"}
	check := benchRow{Name: "attest/agent-verify", Ours: median(ns["Delta/verify"]), Unit: "ns", Published: "paper 1.6 s for an agent, 0.2 s for its input and output"}
	return []benchRow{
		report, whole, many.versus("1,000 full verifications", 1000*one), first.versus("three times one agent: the goal", 3*one), parsed,
		fromJSON.versus("three times one agent, from its JSON", 3*(one+readOne)),
		produce.versus("goal", deltaBudget), check.versus("goal", deltaBudget), model,
	}, nil
}

// benchReport verifies one report offline: chain, certificate, signature. An
// emulated PSP of this run signs it; its keys have the sizes of AMD's.
func benchReport(ctx context.Context) (benchRow, error) {
	dir, err := os.MkdirTemp("", "omega-bench-")
	if err != nil {
		return benchRow{}, err
	}
	defer os.RemoveAll(dir)
	root, err := psp.LoadOrCreateRoot(filepath.Join(dir, "psp"))
	if err != nil {
		return benchRow{}, err
	}
	var in, out bytes.Buffer
	in.WriteString("OPSP\x00\x00\x00\x40")
	in.Write(make([]byte, 64))
	if err := root.Serve(ctx, struct {
		*bytes.Reader
		benchWriter
	}{bytes.NewReader(in.Bytes()), benchWriter{&out}}, psp.Launch{}); err != nil {
		return benchRow{}, err
	}
	raw := out.Bytes()[8 : 8+snp.ReportSize]
	table, err := snp.ParseTable(out.Bytes()[8+snp.ReportSize+4:])
	if err != nil {
		return benchRow{}, err
	}
	roots, now := []snp.Root{{Product: snp.Milan, ARK: root.ARK()}}, time.Now()
	times, err := eachCall(ctx, benchCalls, func() error {
		var c snp.Chain
		if c.Leaf, err = snp.ParseCertificate(table.VCEK); err != nil {
			return err
		}
		if c.Intermediate, err = snp.ParseCertificate(table.ASK); err != nil {
			return err
		}
		_, err = snp.Verify(raw, c, roots, now)
		return err
	})
	if err != nil {
		return benchRow{}, err
	}
	row := benchRow{Name: "attest/report", Ours: median(times), Unit: "ns"}
	return row.versus("goal", reportBudget), nil
}

type benchWriter struct{ to *bytes.Buffer }

func (w benchWriter) Write(b []byte) (int, error) { return w.to.Write(b) }

// verifierBenchmarks runs the verifier's own benchmarks, on evidence of a world
// that its tests make.
func verifierBenchmarks(ctx context.Context) (map[string][]float64, error) {
	text, err := goBench(ctx, "./attest/verifier", "-bench=^Benchmark(Appraise|Delta)$", "-count=5", "-benchtime=200ms")
	if err != nil {
		return nil, err
	}
	ns := benchmarkTimes(text)
	for _, name := range []string{"Appraise/1", "Appraise/1/parse", "Appraise/1000", "Appraise/1000/parse", "Delta/produce", "Delta/verify"} {
		if len(ns[name]) == 0 {
			return nil, fmt.Errorf("benchmark %s of the verifier is missing in:\n%s", name, text)
		}
	}
	return ns, nil
}
