package main

import (
	"context"
	"fmt"
	"maps"
	"math"
	"strconv"
)

const publishedPeers = "paper: 3 to 7 times lower than HTTP, without a log (arXiv 2512.05951)"

// peerSizes are the bytes of text in a message between two agents.
var peerSizes = []int{64, 4 << 10, 64 << 10, 1 << 20}

// benchPeers measures a message from one agent to another and its answer, policy
// and log included. Beside it stand the same two programs in sandboxes with a
// network, through a plain proxy; the same without sandboxes; and the floor, a
// pair of descriptors. Sandboxes need root; without it their rows are left out.
func benchPeers(ctx context.Context, e *env, o benchOptions) ([]benchRow, error) {
	step := e.progress("sending messages between agents")
	defer step.Done()
	runs := "-count=" + strconv.Itoa(o.Runs)
	text, err := goBench(ctx, "./policy/gateway", "-bench=^BenchmarkPeer", "-benchtime=1x", runs)
	if err != nil {
		return nil, err
	}
	boxed, err := goBench(ctx, "./agentloader/sandbox", "-bench=^BenchmarkTalk", "-benchtime=1x", runs)
	if err != nil {
		return nil, err
	}
	all := benchmarkMetrics(text)
	maps.Copy(all, benchmarkMetrics(boxed))
	return peerRows(all)
}

func peerRows(m map[string][]float64) ([]benchRow, error) {
	var rows []benchRow
	for _, size := range peerSizes {
		figure := func(name string) (float64, bool) { return math.Round(median(m[name])), len(m[name]) > 0 }
		name := fmt.Sprintf("gateway/a2a-%d", size)
		if boxed, found := figure(fmt.Sprintf("TalkGateway p50-ns-%d", size)); found {
			network, found := figure(fmt.Sprintf("TalkNetwork p50-ns-%d", size))
			if !found {
				return nil, fmt.Errorf("benchmarks of messages between agents: no reference for %d bytes", size)
			}
			rows = append(rows, benchRow{Name: name, Ours: boxed, Unit: "ns", Published: publishedPeers}.
				versus("the same sandboxes over veth and netstack through Go's reverse proxy", network))
		}
		ours, found := figure(fmt.Sprintf("PeerGateway/%d p50-ns", size))
		proxy, foundProxy := figure(fmt.Sprintf("PeerProxy/%d p50-ns", size))
		floor, foundFloor := figure(fmt.Sprintf("PeerFloor/%d p50-ns", size))
		if !found || !foundProxy || !foundFloor {
			return nil, fmt.Errorf("benchmarks of messages between agents: one of %d bytes is missing", size)
		}
		rows = append(rows,
			benchRow{Name: name + "-unboxed", Ours: ours, Unit: "ns"}.versus("Go's reverse proxy over loopback TCP, no sandbox, policy or log", proxy),
			benchRow{Name: name + "-floor", Ours: ours, Unit: "ns"}.versus("a pair of descriptors, nothing between", floor))
	}
	return rows, nil
}
