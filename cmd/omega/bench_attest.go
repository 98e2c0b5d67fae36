package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"omega/attest"
	"omega/attest/psp"
	"omega/attest/snp"
)

// Budgets of a release, and what the paper says of its own (arXiv 2512.05951).
const (
	reportBudget = 5e6   // ns: one report offline, with its chain
	deltaBudget  = 0.5e6 // ns: one agent more on a platform that is known
	modelBudget  = 50e6  // ns: a model of 10 GB
	modelSize    = 10e9
	hashedSize   = 256 << 20 // what the reference really hashes
	benchCalls   = 200       // of what takes less than milliseconds
)

// benchAttest measures evidence and its appraisal.
func benchAttest(ctx context.Context, e *env, _ benchOptions) ([]benchRow, error) {
	step := e.progress("appraising")
	defer step.Done()
	report, err := benchReport(ctx)
	if err != nil {
		return nil, err
	}
	model, err := benchModel(ctx)
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
	produce := benchRow{Name: "attest/agent-produce", Ours: median(ns["Delta/produce"]), Unit: "ns", Published: "paper 1.6 s for an agent"}
	check := benchRow{Name: "attest/agent-verify", Ours: median(ns["Delta/verify"]), Unit: "ns", Published: "paper 1.6 s for an agent, 0.2 s for its input and output"}
	return []benchRow{
		report, whole, many.versus("1,000 full verifications", 1000*one), first.versus("three times one agent: the goal", 3*one),
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

// benchModel binds a model to an agent: its verity root, as the agent manifest
// names it, goes into the agent's identity. The reference reads all of it.
func benchModel(ctx context.Context) (benchRow, error) {
	c := []attest.Component{{Kind: "model", Name: "m", Digest: attest.Bytes32{1}, Role: "model", Principal: "mia", Salt: attest.Bytes16{2}}}
	times, err := eachCall(ctx, benchCalls, func() error {
		c[0].Digest[31]++
		if attest.IdentityRoot(c) == [32]byte{} {
			return fmt.Errorf("no identity")
		}
		return nil
	})
	if err != nil {
		return benchRow{}, err
	}
	block := make([]byte, 1<<20)
	h, begin := sha256.New(), time.Now()
	for range hashedSize / len(block) {
		h.Write(block)
	}
	hashed := float64(time.Since(begin).Nanoseconds()) * modelSize / hashedSize
	row := benchRow{Name: "attest/model-10GB", Ours: median(times), Unit: "ns", Published: fmt.Sprintf("paper 15.6 s, hashing its model; our goal is %d ms", int(modelBudget/1e6))}
	return row.versus("SHA-256 of 256 MiB in memory, scaled to 10 GB", hashed), nil
}

// verifierBenchmarks runs the verifier's own benchmarks, on evidence of a world
// that its tests make.
func verifierBenchmarks(ctx context.Context) (map[string][]float64, error) {
	text, err := goBench(ctx, "./attest/verifier", "-bench=^Benchmark(Appraise|Delta)$", "-count=3", "-benchtime=200ms")
	if err != nil {
		return nil, err
	}
	ns := benchmarkTimes(text)
	for _, name := range []string{"Appraise/1", "Appraise/1000", "Delta/produce", "Delta/verify"} {
		if len(ns[name]) == 0 {
			return nil, fmt.Errorf("benchmark %s of the verifier is missing in:\n%s", name, text)
		}
	}
	return ns, nil
}
