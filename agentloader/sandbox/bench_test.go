package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
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
		time.Sleep(6 * time.Second)
		b.ReportMetric(float64(memoryOf(b, all))/agents, "bytes/agent")
		for _, box := range all {
			end(b, box)
		}
	}
}

// memoryOf is what the sandboxes take, in bytes: the proportional set size of their processes, except
// for memory files, whose pages are counted once. (The kernel divides pages of large folios wrongly.)
func memoryOf(b *testing.B, boxes []*Sandbox) int64 {
	b.Helper()
	below := map[int]bool{}
	var sum int64
	for _, box := range boxes {
		below[box.sentry.Pid] = true
		sum += memoryFiles(box.sentry.Pid)
	}
	for grown := true; grown; {
		grown = false
		stats, _ := filepath.Glob("/proc/[0-9]*/stat")
		for _, path := range stats {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			text, _ := os.ReadFile(path)
			_, rest, _ := strings.Cut(string(text), ") ")
			f := strings.Fields(rest)
			if len(f) < 2 || below[pid] {
				continue
			}
			if parent, _ := strconv.Atoi(f[1]); below[parent] {
				below[pid], grown = true, true
			}
		}
	}
	for pid := range below {
		sum += pss(pid)
	}
	return sum
}

// pss is a process's share of anonymous memory and of files (proc_pid_smaps_rollup in proc(5)).
func pss(pid int) (sum int64) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0 // it has ended
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && (f[0] == "Pss_Anon:" || f[0] == "Pss_File:") {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			sum += kib << 10
		}
	}
	return sum
}

// memoryFiles is what a process's memory files hold.
func memoryFiles(pid int) (sum int64) {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, link := range links {
		var st syscall.Stat_t
		if name, _ := os.Readlink(link); strings.HasPrefix(name, "/memfd:") && syscall.Stat(link, &st) == nil {
			sum += st.Blocks * 512
		}
	}
	return sum
}
