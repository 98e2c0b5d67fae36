package gpu_test

import (
	"context"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"omega/gpu"
	"omega/gpu/evidence"
	"omega/gpu/probe"
	"omega/internal/skip"
	"omega/internal/vectors"
)

// builds keeps the program of gpu/nvml and the stand-ins for NVIDIA's library,
// built once for all tests.
var builds = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "omega-gpu-test-"); err != nil {
		return "", err
	}
	run := func(in string, env []string, words ...string) error {
		cmd := exec.Command(words[0], words[1:]...)
		cmd.Dir, cmd.Env = in, append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = errors.Join(err, errors.New(string(out)))
		}
		return err
	}
	err = run("nvml", []string{"CGO_ENABLED=1", "CGO_CFLAGS=-O1 -w"}, "go", "build", "-buildvcs=false", "-o", filepath.Join(dir, "nvml"), ".")
	if err != nil {
		return dir, err
	}
	list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/NVIDIA/go-nvml")
	list.Dir = "nvml"
	module, err := list.Output()
	if err != nil {
		return dir, err
	}
	header := "-I" + filepath.Join(strings.TrimSpace(string(module)), "pkg", "nvml")
	for name, flags := range map[string][]string{"new": nil, "old": {"-DOLD_LIBRARY"}} {
		lib := filepath.Join(dir, name)
		if err := os.Mkdir(lib, 0o755); err != nil {
			return dir, err
		}
		words := append([]string{"gcc", "-shared", "-fPIC", header, "-o", filepath.Join(lib, "libnvidia-ml.so.1"), "testdata/fake.c"}, flags...)
		if err := run(".", nil, words...); err != nil {
			return dir, err
		}
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, _ := builds(); dir != "" {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// fake is one machine as the stand-in shows it: files by name.
type fake map[string]string

// healthy is a machine with one H100 in confidential mode: GPUs, CPU with SNP,
// capable, production, feature on, devtools off, one GPU alone.
const healthy = "1 3 1 2 1 0 0"

// start runs the program over the stand-in.
func start(t *testing.T, library string, files fake) *gpu.Probe {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		skip.Missing(t, "apt-get install gcc gives the compiler for the program and its library: %v", err)
	}
	dir, err := builds()
	if err != nil {
		t.Fatalf("building the program and its library: %v", err)
	}
	world := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(world, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(filepath.Join(dir, "nvml"))
	cmd.Env = []string{"GOTRACEBACK=none", "LD_LIBRARY_PATH=" + filepath.Join(dir, library), "FAKE_NVML=" + world}
	cmd.Stderr = t.Output()
	p, err := gpu.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func TestTheProgramTellsWhatTheDriverSays(t *testing.T) {
	p := start(t, "new", fake{"system": healthy})
	a, err := p.Ask(t.Context(), probe.Request{Op: probe.OpSystem})
	if err != nil {
		t.Fatal(err)
	}
	want := probe.System{Driver: "550.90.07", GPUs: 1, CPU: probe.CPUSNP, GPUCapable: true, Feature: true, Environment: probe.EnvironmentProduction}
	if *a.System != want {
		t.Errorf("%+v, want %+v", *a.System, want)
	}
}

// The bytes of a real H100 go through the real program and appraise as verified.
func TestRecordedEvidenceComesThroughWhole(t *testing.T) {
	report, chain := vectors.Read(t, "nvidia/h100-550.90.07/test_raw_gpu_attestation_report.dat"), vectors.Read(t, "nvidia/h100-550.90.07/test_gpu_attestation_certificate_chain.dat")
	const nonce = "931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb"
	q := probe.Request{Op: probe.OpEvidence}
	if _, err := hex.Decode(q.Nonce[:], []byte(nonce)); err != nil {
		t.Fatal(err)
	}
	p := start(t, "new", fake{"system": healthy, "chain-0": string(chain), "report-0-" + nonce: string(report)})
	a, err := p.Ask(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	r, err := evidence.Appraise(evidence.Evidence{Report: a.Report, Chain: a.Chain}, evidence.Params{
		Nonce: q.Nonce, Roots: evidence.NVIDIA(), Now: time.Date(2025, 10, 1, 0, 0, 0, 0, time.UTC),
		RIMs: [][]byte{
			vectors.Read(t, "nvidia/h100-550.90.07/NV_GPU_DRIVER_GH100_550.90.07.xml"),
			vectors.Read(t, "nvidia/h100-550.90.07/NV_GPU_VBIOS_1010_0200_882_96009F0001.xml"),
		},
	})
	if err != nil || r.Verdict != evidence.VerdictVerified {
		t.Errorf("verdict %v, error %v", r.Verdict, err)
	}
	// Another nonce is none that this device was asked with: it refuses, and the
	// driver gives the GPU up.
	q.Nonce[0]++
	if _, err := p.Ask(t.Context(), q); err == nil {
		t.Error("evidence for a nonce that nobody recorded")
	}
	if _, err := p.Ask(t.Context(), probe.Request{Op: probe.OpReady, Ready: true}); err == nil {
		t.Error("a GPU that failed a report became ready")
	}
}

func TestReadyIsSetReadBackAndTakenBackForGood(t *testing.T) {
	p := start(t, "new", fake{"system": healthy})
	set := func(on bool) (bool, error) {
		a, err := p.Ask(t.Context(), probe.Request{Op: probe.OpReady, Ready: on})
		return err == nil && a.System.Ready, err
	}
	if on, err := set(true); !on || err != nil {
		t.Fatalf("ready %t, error %v", on, err)
	}
	if on, err := set(false); on || err != nil {
		t.Fatalf("taken back: ready %t, error %v", on, err)
	}
	if on, err := set(true); on || err == nil {
		t.Error("ready again without a reset")
	}
}

// What the library does to its process, it does to nobody else; and the process
// can do little.
func TestAFaultyLibraryHarmsNobody(t *testing.T) {
	ask := probe.Request{Op: probe.OpSystem}
	t.Run("it aborts", func(t *testing.T) {
		p := start(t, "new", fake{"system": healthy, "misbehave": "crash"})
		for range 2 {
			if _, err := p.Ask(t.Context(), ask); !errors.Is(err, gpu.ErrGone) {
				t.Errorf("error %v", err)
			}
		}
	})
	t.Run("it hangs", func(t *testing.T) {
		p := start(t, "new", fake{"system": healthy, "misbehave": "hang"})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := p.Ask(ctx, ask); !errors.Is(err, gpu.ErrGone) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("it lies about a length", func(t *testing.T) {
		p := start(t, "new", fake{"system": healthy, "misbehave": "long", "chain-0": "x", "report-0-" + strings.Repeat("00", 32): "y"})
		if _, err := p.Ask(t.Context(), probe.Request{Op: probe.OpEvidence}); err == nil || !strings.Contains(err.Error(), "more bytes") {
			t.Errorf("error %v", err)
		}
		if _, err := p.Ask(t.Context(), ask); err != nil {
			t.Errorf("the next question: %v", err)
		}
	})
	for _, how := range []string{"socket", "exec"} {
		t.Run("it tries "+how, func(t *testing.T) {
			p := start(t, "new", fake{"system": healthy, "misbehave": how})
			a, err := p.Ask(t.Context(), ask)
			if err != nil || a.System.Driver != how+" refused" {
				t.Errorf("%+v, error %v", a.System, err)
			}
		})
	}
	t.Run("it lacks a function", func(t *testing.T) {
		p := start(t, "old", fake{"system": healthy})
		for range 2 { // the loader would have ended the process
			if _, err := p.Ask(t.Context(), ask); err == nil || !strings.Contains(err.Error(), "has no nvmlSystemGetConfComputeCapabilities") {
				t.Errorf("error %v", err)
			}
		}
	})
}
