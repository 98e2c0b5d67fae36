package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"omega/images"
	"omega/internal/cache"
	"omega/internal/labelhash"
)

// What others say of starting an agent, and of how many fit.
const (
	publishedStart = "paper 36 ms, container 6500, CVM 18120 (arXiv 2512.05951 v1, second hand); runsc create+start 81-280 (apoxy.dev)"
	publishedIdle  = "gVisor about 50 MB a container (dev.to/dipankar_sarkar)"
)

// Budgets of issue 7.
const (
	budgetPool    = 30.0 // ms
	budgetCold    = 150.0
	budgetAhead   = 50.0
	budgetStatic  = 100.0 // idle agents to a GiB
	budgetPython  = 18.0
	pythonSuite   = "bookworm"
	pythonInclude = "python3,python3-requests,python3-httpx"
)

// benchSandbox measures starts and idle agents on this machine, without a virtual
// one: the benchmarks of a guest package, which the host does not link.
func benchSandbox(ctx context.Context, e *env, runs int) ([]benchRow, error) {
	if os.Getuid() != 0 {
		e.sayf("agents outside of a virtual machine need root: left out")
		return nil, nil
	}
	if err := ensureTools(ctx, e, []string{"runc"}, os.Getenv("YES") == "1"); err != nil {
		e.sayf("no runc to compare with: %v", err)
	}
	python, err := pythonTree(ctx, e)
	if err != nil {
		e.sayf("no Python to measure: %v", err)
	}
	step := e.progress("starting agents on this machine")
	defer step.Done()
	source, err := sourceRoot()
	if err != nil {
		return nil, err
	}
	text, err := sandboxBenchmarks(ctx, source, python, "Start|Reference|Python", max(10, runs))
	if err != nil {
		return nil, err
	}
	idle, err := sandboxBenchmarks(ctx, source, python, "Idle", 1)
	if err != nil {
		return nil, err
	}
	return sandboxRows(benchmarkTimes(text), benchmarkBytes(idle))
}

// sandboxBenchmarks runs the package's benchmarks, each start as a run of its own.
func sandboxBenchmarks(ctx context.Context, source, python, which string, count int) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run=^$", "-bench="+which, "-benchtime=1x", "-timeout=30m",
		"-count="+strconv.Itoa(count), "./agentloader/sandbox")
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "OMEGA_BENCH_PYTHON="+python)
	var words bytes.Buffer
	cmd.Stderr = &words
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("benchmarks of sandboxes: %w: %s%s", err, text, words.Bytes())
	}
	return text, nil
}

// sandboxRows are the figures of the package's benchmarks.
func sandboxRows(ns, size map[string][]float64) ([]benchRow, error) {
	ms := func(name string) float64 { return math.Round(median(ns[name])/1e4) / 100 }
	if len(ns["StartFromPool"]) == 0 || len(ns["StartFromCold"]) == 0 || len(size["IdleStatic"]) == 0 {
		return nil, errors.New("benchmarks of sandboxes are missing")
	}
	pool := benchRow{Name: "agents/start-from-pool", Ours: ms("StartFromPool"), Unit: "ms", Published: publishedStart}
	cold := benchRow{Name: "agents/start-from-cold", Ours: ms("StartFromCold"), Unit: "ms", Published: publishedStart}
	rows := []benchRow{pool.versus("budget", budgetPool), cold.versus("budget", budgetCold)}
	for _, r := range []struct{ name, what string }{{"ReferenceRunsc", "plain runsc run"}, {"ReferenceRunc", "runc run"}} {
		if len(ns[r.name]) > 0 {
			rows = append(rows, pool.versus(r.what, ms(r.name)), cold.versus(r.what, ms(r.name)))
		}
	}
	if len(ns["PythonAhead"]) > 0 {
		rows = append(rows, benchRow{Name: "agents/python-ahead-first-answer", Ours: ms("PythonAhead"), Unit: "ms"}.versus("budget", budgetAhead))
	}
	for _, r := range []struct {
		bench, name string
		budget      float64
	}{{"IdleStatic", "agents/idle-per-gib/static", budgetStatic}, {"IdlePython", "agents/idle-per-gib/python", budgetPython}} {
		if len(size[r.bench]) > 0 {
			rows = append(rows, benchRow{Name: r.name, Ours: math.Floor(float64(1<<30) / median(size[r.bench])), Unit: "agents",
				Published: publishedIdle}.versus("budget, at least", r.budget))
		}
	}
	return rows, nil
}

// benchmarkBytes reads the metric bytes/agent of `go test -bench` lines.
func benchmarkBytes(text []byte) map[string][]float64 {
	out := map[string][]float64{}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		f := strings.Fields(s.Text())
		for i := 1; i < len(f); i++ {
			if f[i] != "bytes/agent" {
				continue
			}
			name, _, _ := strings.Cut(strings.TrimPrefix(f[0], "Benchmark"), "-")
			if n, err := strconv.ParseFloat(f[i-1], 64); err == nil {
				out[name] = append(out[name], n)
			}
		}
	}
	return out
}

// pythonTree returns a tar of a small Debian with Python and what agents import,
// from the cache.
func pythonTree(ctx context.Context, e *env) (string, error) {
	c, err := cache.Open("")
	if err != nil {
		return "", err
	}
	key := cache.Key(labelhash.Sum256("omega/bench-python/v1", []byte(pythonSuite), []byte(pythonInclude)))
	dir, err := c.Dir(ctx, "python", key, func(dir string) error {
		if err := ensureTools(ctx, e, []string{"mmdebstrap"}, os.Getenv("YES") == "1"); err != nil {
			return err
		}
		step := e.progress("building a Debian with Python")
		defer step.Done()
		archive, err := images.DebianArchive()
		if err != nil {
			return err
		}
		source := "deb " + archive.URI + " " + pythonSuite + " main"
		if archive.SignedBy != "" {
			source = "deb [signed-by=" + archive.SignedBy + "] " + archive.URI + " " + pythonSuite + " main"
		}
		out, err := exec.CommandContext(ctx, "mmdebstrap", "--variant=minbase", "--include="+pythonInclude,
			"--dpkgopt=path-exclude=/usr/share/doc/*", "--customize-hook=rm -rf $1/var/lib/apt/lists/*", "--skip=output/dev",
			pythonSuite, filepath.Join(dir, "python.tar"), source).CombinedOutput()
		if err != nil {
			return fmt.Errorf("mmdebstrap: %w: %s", err, out[max(0, len(out)-2000):])
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "python.tar"), nil
}
