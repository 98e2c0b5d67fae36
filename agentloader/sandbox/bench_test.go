package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// firstWords waits for the agent's first line.
func firstWords(b *testing.B, box *Sandbox) {
	b.Helper()
	for deadline := time.Now().Add(time.Minute); len(box.Output()) == 0; time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			b.Fatal("the agent said nothing")
		}
	}
}

// end clears a sandbox away outside of what is measured.
func end(b *testing.B, box *Sandbox) {
	b.Helper()
	if err := box.Kill(); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkStartFromPool(b *testing.B) {
	s := setUp(b)
	for b.Loop() {
		b.StopTimer()
		box := s.prepare(b, "sleep")
		<-box.Booted()
		time.Sleep(300 * time.Millisecond) // until the shim stands at its gate, and the machine is quiet
		b.StartTimer()
		if err := box.Release("agent-1"); err != nil {
			b.Fatal(err)
		}
		firstWords(b, box)
		b.StopTimer()
		end(b, box)
		b.StartTimer()
	}
}

func BenchmarkStartFromCold(b *testing.B) {
	s := setUp(b)
	for b.Loop() {
		box := s.start(b, "agent-1", "sleep")
		firstWords(b, box)
		b.StopTimer()
		end(b, box)
		b.StartTimer()
	}
}

// BenchmarkIdle is not about time: it reports what an idle agent takes of memory, when there are many.
func BenchmarkIdle(b *testing.B) {
	s := setUp(b)
	const agents = 20
	for b.Loop() {
		var all []*Sandbox
		for i := range agents {
			box := s.start(b, fmt.Sprintf("idle-%d", i), "sleep")
			all = append(all, box)
		}
		for _, box := range all {
			firstWords(b, box)
		}
		time.Sleep(2 * time.Second)
		b.ReportMetric(float64(memoryOf(b, all))/agents, "bytes/agent")
		for _, box := range all {
			end(b, box)
		}
	}
}

// memoryOf is the proportional set size of all processes below the sandboxes' sentries, in bytes.
func memoryOf(b *testing.B, boxes []*Sandbox) int64 {
	b.Helper()
	ours := map[int]bool{}
	for _, box := range boxes {
		ours[box.sentry.Pid] = true
	}
	var sum int64
	for grown := true; grown; {
		grown = false
		stats, _ := filepath.Glob("/proc/[0-9]*/stat")
		for _, path := range stats {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			text, _ := os.ReadFile(path)
			_, rest, _ := strings.Cut(string(text), ") ")
			f := strings.Fields(rest)
			if len(f) < 2 || ours[pid] {
				continue
			}
			if parent, _ := strconv.Atoi(f[1]); ours[parent] {
				ours[pid], grown = true, true
			}
		}
	}
	for pid := range ours {
		sum += pss(pid)
	}
	return sum
}

// pss reads one process's share (proc_pid_smaps(5)).
func pss(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "Pss:" {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			return kib << 10
		}
	}
	return 0
}
