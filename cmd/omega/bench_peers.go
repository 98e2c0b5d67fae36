package main

import (
	"context"
	"fmt"
	"math"
	"strconv"
)

const publishedPeers = "paper: 3 to 7 times lower than HTTP, without a log (arXiv 2512.05951)"

// peerSizes are the bytes of text in a message between two agents.
var peerSizes = []int{64, 4 << 10, 64 << 10, 1 << 20}

// benchPeers measures a message from one agent to another and its answer, policy
// and log included, and stands beside what the same two ends take through a plain
// proxy, and what a pair of descriptors takes.
func benchPeers(ctx context.Context, e *env, o benchOptions) ([]benchRow, error) {
	step := e.progress("sending messages between agents")
	defer step.Done()
	text, err := goBench(ctx, "./policy/gateway", "-bench=^BenchmarkPeer", "-benchtime=1x", "-count="+strconv.Itoa(o.Runs))
	if err != nil {
		return nil, err
	}
	return peerRows(benchmarkMetrics(text))
}

func peerRows(m map[string][]float64) ([]benchRow, error) {
	var rows []benchRow
	for _, size := range peerSizes {
		figure := func(who string) (float64, bool) {
			f := m[fmt.Sprintf("%s/%d p50-ns", who, size)]
			return math.Round(median(f)), len(f) > 0
		}
		ours, found := figure("PeerGateway")
		proxy, foundProxy := figure("PeerProxy")
		floor, foundFloor := figure("PeerFloor")
		if !found || !foundProxy || !foundFloor {
			return nil, fmt.Errorf("benchmarks of messages between agents: one of %d bytes is missing", size)
		}
		name := fmt.Sprintf("gateway/a2a-%d", size)
		rows = append(rows,
			benchRow{Name: name, Ours: ours, Unit: "ns", Published: publishedPeers}.versus("Go's reverse proxy over loopback TCP, no sandbox, policy or log", proxy),
			benchRow{Name: name + "-floor", Ours: ours, Unit: "ns"}.versus("a pair of descriptors, nothing between", floor))
	}
	return rows, nil
}
