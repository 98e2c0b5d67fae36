package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// The budgets of the policy issue for what the gateway adds to a call, in ns.
const (
	addedMedian = 200_000
	addedP99    = 1_000_000
)

const (
	publishedGateway = "agentgateway p50 0.227 ms, p99 0.436 ms at 3,000 calls/s with a mock model and no policy (its blog, 2026-06-26)"
	publishedRate    = "agentgateway 36,933 and LiteLLM 3,198 calls/s (the former's blog, 2026-06-26)"
)

// benchGateway runs the gateway's own benchmarks: it is a guest package, which
// the host does not link. Client, gateway, log and tool server share the
// machine's cores in all rows.
func benchGateway(ctx context.Context, e *env, o benchOptions) ([]benchRow, error) {
	step := e.progress("calling through the gateway")
	defer step.Done()
	text, err := goBench(ctx, "./policy/gateway", "-bench=^Benchmark(Open|Throughput)", "-benchtime=1x", "-count="+strconv.Itoa(o.Runs))
	if err != nil {
		return nil, err
	}
	rows, err := gatewayRows(benchmarkMetrics(text))
	if err != nil {
		return nil, err
	}
	peers, err := benchPeers(ctx, e, o)
	return append(rows, peers...), err
}

// gatewayRows puts the figures of the benchmarks beside each other.
func gatewayRows(m map[string][]float64) ([]benchRow, error) {
	for _, name := range []string{
		"OpenDirect p50-ns", "OpenGateway p50-ns", "OpenGateway p99-ns", "OpenGatewayFsync p50-ns",
		"ThroughputDirect calls/s", "ThroughputGateway calls/s", "ThroughputProxy calls/s",
	} {
		if len(m[name]) == 0 {
			return nil, fmt.Errorf("benchmarks of the gateway: no %s", name)
		}
	}
	figure := func(name string) float64 { return math.Round(median(m[name])) }
	added := func(name, of, quantile string, budget float64) benchRow {
		row := benchRow{Name: "gateway/" + name, Ours: figure(of+" "+quantile) - figure("OpenDirect "+quantile), Unit: "ns", Published: publishedGateway}
		return row.versus("the issue's budget", budget)
	}
	rows := []benchRow{
		added("added-p50", "OpenGateway", "p50-ns", addedMedian),
		added("added-p99", "OpenGateway", "p99-ns", addedP99),
		added("added-p50-fsync", "OpenGatewayFsync", "p50-ns", addedMedian),
		added("added-p99-fsync", "OpenGatewayFsync", "p99-ns", addedP99),
	}
	ours := figure("ThroughputGateway calls/s")
	for _, r := range []struct{ name, metric, what string }{
		{"gateway/throughput-32-proxy", "ThroughputProxy calls/s", "Go's reverse proxy, without policy and log"},
		{"gateway/throughput-32-direct", "ThroughputDirect calls/s", "no gateway"},
		{"gateway/throughput-32-nginx", "ThroughputNginx calls/s", "nginx as a plain proxy"},
	} {
		if len(m[r.metric]) > 0 {
			rows = append(rows, benchRow{Name: r.name, Ours: ours, Unit: "calls/s", Published: publishedRate}.versus(r.what, figure(r.metric)))
		}
	}
	return rows, nil
}

// benchmarkMetrics reads the further figures of `go test -bench` lines, which
// come in pairs of value and unit, under "Name unit".
func benchmarkMetrics(text []byte) map[string][]float64 {
	out := map[string][]float64{}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(f[0], "Benchmark"), "-")
		for i := 2; i+1 < len(f); i += 2 {
			if v, err := strconv.ParseFloat(f[i], 64); err == nil {
				out[name+" "+f[i+1]] = append(out[name+" "+f[i+1]], v)
			}
		}
	}
	return out
}
