package main

import "context"

// Budgets of a release.
const (
	gpuBudget      = 40e6  // ns: one GPU's evidence with both RIMs
	eightGPUBudget = 200e6 // ns: that of eight
)

// benchGPU measures the appraisal of what a real H100 said. That is no file of
// the project: where it is not at hand, nothing is measured.
func benchGPU(ctx context.Context, e *env, _ benchOptions) ([]benchRow, error) {
	step := e.progress("appraising a GPU")
	defer step.Done()
	text, err := goBench(ctx, "./gpu/evidence", "-bench=^BenchmarkAppraise$", "-count=5", "-benchtime=200ms")
	if err != nil {
		return nil, err
	}
	ns := benchmarkTimes(text)
	if len(ns["Appraise/1"]) == 0 || len(ns["Appraise/8"]) == 0 {
		e.sayf("gpu: no recorded evidence is at hand (OMEGA_VECTORS): not measured")
		return nil, nil
	}
	one, eight := benchRow{Name: "gpu/appraise", Ours: median(ns["Appraise/1"]), Unit: "ns"}, benchRow{Name: "gpu/appraise-8", Ours: median(ns["Appraise/8"]), Unit: "ns"}
	return []benchRow{one.versus("goal", gpuBudget), eight.versus("goal", eightGPUBudget)}, nil
}
